"""Model sizes and runs, as YAML files."""
