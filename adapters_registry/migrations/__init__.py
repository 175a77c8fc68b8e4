"""The schema's steps, run by `Database.migrate` when a registry is opened."""
