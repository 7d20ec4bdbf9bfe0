"""Makes the packages that registries of tests have, in a directory: wheels, a source archive, archives of npm."""

import base64, hashlib, io, json, os, sys, tarfile, zipfile

top, host, other = sys.argv[1:4]


def put(path, content):
    path = os.path.join(top, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)


def wheel(name, version, files, extra=""):
    info = f"{name}-{version}.dist-info"
    files = dict(files)
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{extra}"
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = "".join(f"{path},,\n" for path in files) + f"{info}/RECORD,,\n"
    files[f"{info}/RECORD"] = record
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return f"{name}-{version}-py3-none-any.whl", out.getvalue()


def archive(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as made:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content.encode()), 0o755
            made.addfile(member, io.BytesIO(content.encode()))
    return out.getvalue()


# What a build script can see and do, as Python and as JavaScript have it.
PROBE = f'''
import json, os, socket
def reaches(address):
    try:
        socket.create_connection((address, 80), 5).close()
        return True
    except OSError:
        return False
def writes(path):
    try:
        open(path, "w").close()
        return True
    except OSError:
        return False
FOUND = {{
    "host": os.path.exists({top!r}), "shadow": os.path.exists("/etc/shadow"), "own": os.path.exists("/workspace"),
    "listed": reaches({host!r}), "unlisted": reaches({other!r}),
    "writes": writes("/dependencies/python/x") or writes("/node_modules/x") or writes("/x"),
}}
'''
BACKEND = PROBE + '''
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    import zipfile
    name = "built-1.0-py3-none-any.whl"
    info = "built-1.0.dist-info"
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as made:
        made.writestr("built.py", "FOUND = %r\\n" % FOUND)
        made.writestr(info + "/METADATA", "Metadata-Version: 2.1\\nName: built\\nVersion: 1.0\\n")
        made.writestr(info + "/WHEEL", "Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        made.writestr(info + "/RECORD", "built.py,,\\n" + "".join("%s/%s,,\\n" % (info, f) for f in ("METADATA", "WHEEL", "RECORD")))
    return name
'''
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n[project]\nname = "built"\nversion = "1.0"\n'
INSTALL = f'''
const fs = require("fs"), net = require("net");
const reaches = (host) => new Promise((done) => {{
  const socket = net.connect(80, host);
  socket.on("connect", () => {{ socket.destroy(); done(true); }});
  socket.on("error", () => done(false));
}});
(async () => {{
  const found = {{
    host: fs.existsSync({json.dumps(top)}), shadow: fs.existsSync("/etc/shadow"), own: fs.existsSync("/workspace"),
    listed: await reaches({json.dumps(host)}), unlisted: await reaches({json.dumps(other)}),
  }};
  fs.writeFileSync("found.json", JSON.stringify(found));
}})();
'''

entry = {"greeting-{0}.dist-info/entry_points.txt": "[console_scripts]\ngreet = greeting:main\n"}
python = {"greeting": [], "built": [], "big": [], "hostile": []}
for version in ("1.0", "1.5", "2.0"):
    files = {"greeting.py": f'VERSION = "{version}"\ndef main():\n    print("hello", VERSION)\n'}
    files.update({path.format(version): text for path, text in entry.items()})
    python["greeting"].append(wheel("greeting", version, files))
python["big"].append(wheel("big", "1.0", {"big.py": "#" * 3_000_000}))
source = {"built-1.0/backend.py": BACKEND, "built-1.0/pyproject.toml": PYPROJECT, "built-1.0/PKG-INFO": "Metadata-Version: 2.1\nName: built\nVersion: 1.0\n"}
python["built"].append(("built-1.0.tar.gz", archive(source)))
# A build script that leaves something behind that is no file, and a link that leads out.
wicked = BACKEND.replace("built", "hostile") + '''
os.makedirs("/workspace/installed", exist_ok=True)
if not os.path.islink("/workspace/installed/out"):
    os.symlink("/etc/passwd", "/workspace/installed/out")
'''
wicked = {path.replace("built", "hostile"): text for path, text in {**source, "built-1.0/backend.py": wicked}.items()}
wicked = {path: text.replace('"built"', '"hostile"').replace("Name: built", "Name: hostile") for path, text in wicked.items()}
python["hostile"].append(("hostile-1.0.tar.gz", archive(wicked)))
for name, files in python.items():
    links = ""
    for file, content in files:
        put(f"files/{file}", content)
        digest = hashlib.sha256(content).hexdigest()
        put(f"hashes/{file}", digest.encode())
        links += f'<a href="/files/{file}#sha256={digest}">{file}</a>\n'
    put(f"simple/{name}/index.html", f"<!DOCTYPE html><html><body>{links}</body></html>".encode())


def npm(name, versions, port=""):
    described = {}
    for version, (files, package) in versions.items():
        package = {"name": name, "version": version, **package}
        content = archive({"package/package.json": json.dumps(package), **{f"package/{path}": text for path, text in files.items()}})
        base = name.split("/")[-1]
        put(f"npm/{name}/-/{base}-{version}.tgz", content)
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
        put(f"hashes/{base}-{version}.tgz", integrity.encode())
        dist = {"tarball": f"http://{host}{port}/npm/{name}/-/{base}-{version}.tgz", "integrity": integrity, "shasum": hashlib.sha1(content).hexdigest()}
        described[version] = {**package, "dist": dist, "hasInstallScript": "scripts" in package}
    latest = sorted(versions)[-1]
    put(f"npm/{name}/index.json", json.dumps({"name": name, "dist-tags": {"latest": latest}, "versions": described}).encode())


plain = lambda version: ({"index.js": f'exports.version = "{version}";\n', "cli.js": f'#!/usr/bin/env node\nconsole.log("cli {version}");\n'}, {"main": "index.js", "bin": {"greeter": "cli.js"}})
npm("greeter", {version: plain(version) for version in ("4.0.0", "4.2.0", "5.0.0")})
npm("@scope/leaf", {"1.0.0": ({"index.js": 'exports.leaf = require("greeter").version;\n'}, {"dependencies": {"greeter": "^4"}})})
npm("built", {"1.0.0": ({"install.js": INSTALL, "index.js": 'module.exports = require("./found.json");\n'}, {"scripts": {"postinstall": "node install.js"}})})
# What goes on without another, whose archive is at the second port.
npm("partial", {"1.0.0": ({"index.js": 'try { exports.extra = require("extra").is; } catch { exports.extra = "absent"; }\n'}, {"optionalDependencies": {"extra": "1"}})})
npm("extra", {"1.0.0": ({"index.js": 'exports.is = "there";\n'}, {})}, ":82")
