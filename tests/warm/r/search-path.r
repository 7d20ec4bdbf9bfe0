print(search())
print(loadedNamespaces())
print(sessionInfo())
