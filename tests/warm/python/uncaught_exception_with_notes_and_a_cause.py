try:
    try:
        {}["missing"]
    except KeyError as error:
        raise ValueError("second") from error
except ValueError as error:
    if hasattr(error, "add_note"):
        error.add_note("a note\nof two lines")
    raise
