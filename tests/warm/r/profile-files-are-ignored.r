print(exists("poison"))
