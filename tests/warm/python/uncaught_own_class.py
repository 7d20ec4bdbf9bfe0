class Failure(Exception):
    def __str__(self):
        return "mine"


raise Failure
