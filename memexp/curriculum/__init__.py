"""Which task an episode plays next. `uniform` draws tasks evenly and keeps training and held-out tasks apart."""
