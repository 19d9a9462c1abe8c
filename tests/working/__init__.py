"""An app with jobs, for workers that are processes: what a customer's own app would bring."""
