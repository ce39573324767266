"""Do cvc_random_maps and assembly_lines require memory?"""
