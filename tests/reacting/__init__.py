"""An app with a reaction, for workers that are processes: what a customer's own app would bring."""
