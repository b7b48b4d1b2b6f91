"""The models: what there is, where its files are, how it is loaded, and a look inside."""
