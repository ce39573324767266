"""Environments of other libraries as Gymnasium's vector environments; `make` of a module makes one of them.

envpool.py   EnvPool's, which C++ threads step        gymnax.py   gymnax's, which JAX steps
"""
