import importlib

for name in "first", "second":
    with open(name + "_made.py", "w") as file:
        file.write(f"print({name!r})\n")
    importlib.invalidate_caches()
    importlib.import_module(name + "_made")
