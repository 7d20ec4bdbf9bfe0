//! Packages of Node.js: names with ranges of versions, and nothing else that `npm` would take for a package.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value, json};

use super::{LISTED, LOCKED, NpmDependencies, NpmLock, REQUIREMENT_BYTES, Written, Wrong, too_many};

/// Kinds of dependencies that a `package.json` names.
const KINDS: [&str; 4] = ["dependencies", "devDependencies", "optionalDependencies", "peerDependencies"];
/// What would have other packages be installed than those that it names.
const REFUSED: [&str; 5] = ["workspaces", "overrides", "resolutions", "bundleDependencies", "bundledDependencies"];

static NAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("^(?:@[A-Za-z0-9~][A-Za-z0-9._~-]*/)?[A-Za-z0-9~][A-Za-z0-9._~-]*$").expect("a fixed pattern")
});
/// A range as semantic versioning has it, or a tag. No colon and no slash: those make an address or a path of it.
static RANGE: LazyLock<Regex> = LazyLock::new(|| {
    let version = r"[v=]?(?:[0-9]+|[xX*])(?:\.(?:[0-9]+|[xX*])){0,2}(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?";
    let one = format!("(?:<=|>=|<|>|=|~|\\^)? *{version}");
    let set = format!("(?:{version} +- +{version}|{one}(?: +{one})*)");
    Regex::new(&format!("^(?:{set}(?: *\\|\\| *{set})*|[A-Za-z][A-Za-z0-9_-]*)$")).expect("a fixed pattern")
});
static HASHES: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("^sha(?:1|256|384|512)-[A-Za-z0-9+/=]+(?: sha(?:1|256|384|512)-[A-Za-z0-9+/=]+)*$")
        .expect("a fixed pattern")
});

/// What is to be written beside the directory that is filled.
pub(super) fn written(asked: NpmDependencies, registry: &str) -> Result<Written, Wrong> {
    match asked {
        NpmDependencies::Listed(listed) => {
            let packages = listed_packages(&listed)?;
            if packages.is_empty() {
                return Ok(Written { files: Vec::new(), floats: true });
            }
            let package = json!({ "name": "installed", "private": true, "dependencies": packages });
            Ok(Written { files: vec![("package.json", package.to_string())], floats: true })
        }
        NpmDependencies::Locked(NpmLock { package, lock }) => {
            let package = checked_package(&package).map_err(|why| (".package".to_owned(), why))?;
            let lock = checked_lock(&lock, registry).map_err(|why| (".lock".to_owned(), why))?;
            let files = vec![("package.json", package.to_string()), ("package-lock.json", lock.to_string())];
            Ok(Written { files, floats: false })
        }
    }
}

fn listed_packages(listed: &[String]) -> Result<BTreeMap<&str, &str>, Wrong> {
    if listed.len() > LISTED {
        return Err(too_many("", listed.len(), LISTED));
    }
    let mut packages = BTreeMap::new();
    for (index, text) in listed.iter().enumerate() {
        let wrong = |why: String| (format!("[{index}]"), why);
        let text = text.trim();
        // The first character is that of a scope.
        let (name, range) = match text.char_indices().skip(1).find(|(_, c)| *c == '@') {
            Some((at, _)) => (&text[..at], text[at + 1..].trim()),
            None => (text, "latest"),
        };
        one(name, range).map_err(wrong)?;
        if packages.insert(name, range).is_some_and(|other| other != range) {
            return Err(wrong(format!("{name} is asked for twice")));
        }
    }
    Ok(packages)
}

fn one(name: &str, range: &str) -> Result<(), String> {
    if name.len() + range.len() > REQUIREMENT_BYTES {
        return Err(format!("it is longer than {REQUIREMENT_BYTES} bytes"));
    }
    let is_reserved = matches!(name, "node_modules" | "favicon.ico");
    if !NAME.is_match(name) || is_reserved || !RANGE.is_match(range) {
        return Err("this is no name with a range of versions or a tag, such as lodash@4 or @types/node@^20".to_owned());
    }
    Ok(())
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err("this is no JSON object".to_owned()),
        Err(error) => Err(format!("this is not JSON: {error}")),
    }
}

/// Names and ranges of a `package.json`; what else it says, its scripts among them, is none of an installer's.
fn checked_package(text: &str) -> Result<Value, String> {
    let given = object(text)?;
    if let Some(key) = REFUSED.into_iter().find(|key| given.contains_key(*key)) {
        return Err(format!("{key} is not allowed"));
    }
    let mut package = Map::new();
    for key in ["name", "version"] {
        // The lock file says the same, and is compared.
        if let Some(Value::String(text)) = given.get(key)
            && text.len() <= REQUIREMENT_BYTES
        {
            package.insert(key.to_owned(), json!(text));
        }
    }
    let mut count = 0;
    for kind in KINDS {
        let Some(packages) = given.get(kind) else { continue };
        let packages = packages.as_object().ok_or_else(|| format!("{kind} is no object"))?;
        count += packages.len();
        for (name, range) in packages {
            let range = range.as_str().ok_or_else(|| format!("{kind}.{name} is no text"))?;
            one(name, range.trim()).map_err(|why| format!("{kind}.{name}: {why}"))?;
        }
        package.insert(kind.to_owned(), json!(packages));
    }
    if count > LOCKED {
        return Err(format!("{count} packages are too many: there may be {LOCKED}"));
    }
    Ok(Value::Object(package))
}

/// A lock file, each package of which comes from the registry and has a hash.
fn checked_lock(text: &str, registry: &str) -> Result<Value, String> {
    let given = object(text)?;
    let version = given.get("lockfileVersion").and_then(Value::as_u64);
    let Some(version @ (2 | 3)) = version else {
        return Err("lockfileVersion must be 2 or 3".to_owned());
    };
    let packages = given.get("packages").and_then(Value::as_object).ok_or("packages is missing")?;
    if packages.len() > LOCKED {
        return Err(format!("{} packages are too many: there may be {LOCKED}", packages.len()));
    }
    for (place, package) in packages {
        let package = package.as_object().ok_or_else(|| format!("packages[{place:?}] is no object"))?;
        if place.is_empty() {
            continue;
        }
        locked(place, package, registry).map_err(|why| format!("packages[{place:?}]: {why}"))?;
    }
    let mut lock = Map::new();
    for key in ["name", "version", "requires"] {
        if let Some(value) = given.get(key).filter(|value| value.is_string() || value.is_boolean()) {
            lock.insert(key.to_owned(), value.clone());
        }
    }
    lock.insert("lockfileVersion".to_owned(), json!(version));
    lock.insert("packages".to_owned(), json!(packages));
    Ok(Value::Object(lock))
}

fn locked(place: &str, package: &Map<String, Value>, registry: &str) -> Result<(), String> {
    // Where a package lies says what it is called: node_modules/a/node_modules/@b/c.
    let mut rest = place;
    while !rest.is_empty() {
        let inner = rest.strip_prefix("node_modules/").ok_or("a package lies in a directory node_modules")?;
        let (name, more) = inner
            .split_once("/node_modules/")
            .map_or((inner, ""), |(name, _)| (name, inner.get(name.len() + 1..).unwrap_or_default()));
        if !NAME.is_match(name) {
            return Err("this is no name of a package".to_owned());
        }
        rest = more;
    }
    let text = |key: &str| package.get(key).map(|value| value.as_str().ok_or(format!("{key} is no text"))).transpose();
    if package.contains_key("link") {
        return Err("links are not allowed".to_owned());
    }
    if let Some(name) = text("name")?.filter(|name| !NAME.is_match(name)) {
        return Err(format!("{name:?} is no name of a package"));
    }
    let version = text("version")?.ok_or("version is missing")?;
    if semver::Version::parse(version.trim_start_matches('v')).is_err() {
        return Err(format!("{version:?} is no version"));
    }
    let resolved = text("resolved")?;
    if let Some(address) = resolved {
        let below = address.strip_prefix(registry).and_then(|rest| rest.strip_prefix('/'));
        let is_plain = |rest: &str| {
            rest.chars().all(|c| c.is_ascii_alphanumeric() || "-._~/@%+".contains(c))
                && !rest.split('/').any(|part| part == "..")
        };
        if registry.is_empty() || !below.is_some_and(is_plain) {
            return Err(
                "resolved is not an address of this service's registry; npm install --omit-lockfile-registry-resolved \
                        leaves it out"
                    .to_owned(),
            );
        }
    }
    match text("integrity")? {
        Some(hashes) if HASHES.is_match(hashes) => Ok(()),
        Some(_) => Err("integrity is no hash".to_owned()),
        // It comes in the archive of another, which has one.
        None if package.get("inBundle") == Some(&Value::Bool(true)) && resolved.is_none() => Ok(()),
        None => Err("integrity is missing".to_owned()),
    }
}
