try:
    raise TypeError("within")
except TypeError as error:
    raise ExceptionGroup("several", [error, ValueError(1), ExceptionGroup("more", [OSError(2, "text")])])
