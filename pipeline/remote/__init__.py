"""Datasets that lie elsewhere: object storage and web servers, what is fetched of them and what is kept."""
