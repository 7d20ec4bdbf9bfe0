"""What schemathesis can't know: bodies that are archives, and answers that have a line for each event."""

import io
import json
import tarfile

import schemathesis


@schemathesis.serializer("application/x-tar")
def archive(_context, value):
    """An archive with one file, whose content is what was generated; none where that is no text."""
    if not isinstance(value, (str, bytes)):
        return b"this is no archive"
    content = value if isinstance(value, bytes) else value.encode("utf-8", "replace")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        entry = tarfile.TarInfo("file")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


@schemathesis.deserializer("application/x-ndjson")
def last_event(_context, response):
    """The last event, which says the most; each line has to be one."""
    events = [json.loads(line) for line in response.content.splitlines() if line]
    return events[-1]
