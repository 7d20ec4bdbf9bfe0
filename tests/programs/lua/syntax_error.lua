print("not closed"
