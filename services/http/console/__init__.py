"""The console: web pages for people, made of what the native API answers and of nothing else."""
