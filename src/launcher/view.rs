//! What the sandboxes of a runtime see, drawn up from the runtime and the host's directories.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::config::dependencies::{MODULES, Tool, UV};
use crate::plan::real::Real;
use crate::plan::tree::Ecosystem;
use crate::plan::{Bind, CERTIFICATES, PROGRAM_ID, Template, USUAL_CERTIFICATES};
use crate::runtime::{BOOT, BOOT_DIRECTORY, Files, KERNEL_DIRECTORY, KERNELS, Manifest, Runtime};

/// Entries of a root directory besides `/usr`: links into it, or directories on older systems.
const ROOT_ENTRIES: [&str; 7] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32", "libexec"];
/// Small parts of `/etc` without which programs of a distribution do not start.
const ETC_ENTRIES: [&str; 4] = ["alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d"];

/// Parts of `/etc` that the programs of a whole distribution look for, none of which holds a secret.
const ETC_OF_A_USER: [&str; 34] = [
    "/etc/bash.bashrc",
    "/etc/bash_completion.d",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/crypto-policies",
    "/etc/debian_version",
    "/etc/default/locale",
    "/etc/emacs",
    "/etc/fonts",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/inputrc",
    "/etc/locale.alias",
    "/etc/locale.conf",
    "/etc/localtime",
    "/etc/magic",
    "/etc/mime.types",
    "/etc/mke2fs.conf",
    "/etc/nanorc",
    "/etc/os-release",
    "/etc/perl",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/protocols",
    "/etc/python3",
    "/etc/redhat-release",
    "/etc/rpc",
    "/etc/services",
    "/etc/shells",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/terminfo",
    "/etc/timezone",
    "/etc/vim",
];

/// Name of the user of every sandbox but those of real directories.
const USER: &str = "sandbox";

/// Names are looked up by the resolver of the uplink as well; nsswitch.conf(5).
const NETWORKED_SWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";

/// Draws up the template of one runtime, or of several together; what two of them have in the same
/// place is the first one's. A session has kernels as well.
pub(super) fn draw_up(runtimes: &[&Runtime], manifest: &Manifest, session: bool) -> Template {
    let mut template = Template {
        binds: Vec::new(),
        links: Vec::new(),
        files: etc_files(USER, Path::new("/tmp")),
        directories: Vec::new(),
        real: None,
    };
    for runtime in runtimes {
        add(&mut template, runtime);
    }
    let listing = serde_json::to_vec_pretty(manifest).unwrap_or_default();
    template.files.push(("/runtime/runtimes.json".into(), listing));
    if session {
        let place = |name: &str| Path::new(KERNEL_DIRECTORY).join(name);
        template.files.extend(KERNELS.iter().map(|(name, text)| (place(name), text.to_vec())));
    }
    let mut seen = HashSet::new();
    template.binds.retain(|bind| seen.insert(bind.target.clone()));
    template.links.retain(|(path, _)| seen.insert(path.clone()));
    template.files.retain(|(path, _)| seen.insert(path.clone()));
    template
}

/// Adds what programs look for that may reach something: who answers for names, and whom to trust.
pub(super) fn add_network(template: &mut Template, certificates: &Path) {
    for (name, text) in [("nsswitch.conf", NETWORKED_SWITCH), ("resolv.conf", "nameserver 127.0.0.1\n")] {
        let path = Path::new("/etc").join(name);
        template.files.retain(|(known, _)| *known != path);
        template.files.push((path, text.as_bytes().to_vec()));
    }
    // What lies in a directory of the host's can't be added to, and is likely to have it.
    let is_covered = template.binds.iter().any(|bind| Path::new(USUAL_CERTIFICATES).starts_with(&bind.target));
    if certificates.is_file() {
        let targets = [Some(CERTIFICATES), (!is_covered).then_some(USUAL_CERTIFICATES)];
        let bind = |target: &str| Bind { source: certificates.to_owned(), target: target.into() };
        template.binds.extend(targets.into_iter().flatten().map(bind));
    } else {
        // One that has certificates of its own has them here.
        template.files.push((CERTIFICATES.into(), Vec::new()));
    }
}

/// Adds what an installer is. Where a runtime brings its own `/usr`, nothing can be added below that.
pub(super) fn add_installer(template: &mut Template, ecosystem: Ecosystem, tool: &Tool) {
    let own = match ecosystem {
        // One file that stands for itself, wherever it lies.
        Ecosystem::Python => tool.path.clone().map(|source| Bind { source, target: UV.into() }),
        Ecosystem::Npm => tool.modules().map(|(source, _)| Bind { source, target: MODULES.into() }),
    };
    // Where it can't be read, the tool is not there either, and says so.
    let listed = tool.closure.as_ref().and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    let paths = tool.paths.iter().cloned().chain(listed.lines().map(PathBuf::from));
    let closure = paths.map(|path| Bind { source: path.clone(), target: path });
    for bind in own.into_iter().chain(closure) {
        if !template.binds.iter().any(|known| bind.target.starts_with(&known.target)) {
            template.binds.push(bind);
        }
    }
}

fn add(template: &mut Template, runtime: &Runtime) {
    match &runtime.files {
        Files::Host { extra } => tree(template, Path::new("/"), extra),
        Files::Tree { root, extra } => tree(template, root, extra),
        Files::Store { closure } => {
            template.binds.extend(closure.iter().map(|path| Bind { source: path.clone(), target: path.clone() }));
            // Scripts name these two paths, on every system.
            for (name, link) in [("sh", "/bin/sh"), ("env", "/usr/bin/env")] {
                if let Some(path) = runtime.programs.get(name) {
                    template.links.push((link.into(), path.clone()));
                }
            }
        }
    }
    let link = |name: &str, path: &Path| (Path::new("/runtime/bin").join(name), path.to_owned());
    let names = runtime.link_names();
    template.links.extend(names.iter().map(|name| link(name, runtime.program())));
    let others = runtime.programs.iter().filter(|(name, _)| !names.contains(name));
    template.links.extend(others.map(|(name, path)| link(name, path)));
    if let Some(warm) = runtime.warm() {
        let boots = BOOT.iter().filter(|(name, _)| *name == warm.boot);
        let place = |name: &str| Path::new(BOOT_DIRECTORY).join(name);
        template.files.extend(boots.map(|(name, text)| (place(name), text.to_vec())));
    }
}

fn tree(template: &mut Template, root: &Path, extra: &[PathBuf]) {
    let mut bind = |target: PathBuf| {
        let source = root.join(target.strip_prefix("/").unwrap_or(&target));
        if source.exists() {
            template.binds.push(Bind { source, target });
        }
    };
    bind("/usr".into());
    for entry in ETC_ENTRIES {
        bind(Path::new("/etc").join(entry));
    }
    extra.iter().cloned().for_each(bind);
    for entry in ROOT_ENTRIES {
        let (source, target) = (root.join(entry), Path::new("/").join(entry));
        match fs::read_link(&source) {
            Ok(text) => template.links.push((target, text)),
            Err(_) if source.is_dir() => template.binds.push(Bind { source, target }),
            Err(_) => {}
        }
    }
}

/// Draws up what programs see that work on real directories: the system's own, read-only, without whatever of
/// `/etc` could be secret.
pub(super) fn draw_up_real(real: &Real) -> Template {
    let mut template = Template {
        binds: Vec::new(),
        links: Vec::new(),
        files: etc_files(&real.user, &real.home),
        directories: Vec::new(),
        real: Some(real.clone()),
    };
    let system = ["/opt", "/nix/store"].into_iter().chain(ETC_OF_A_USER.iter().copied());
    let extra: Vec<PathBuf> = system.map(PathBuf::from).collect();
    tree(&mut template, Path::new("/"), &extra);
    if let Ok(store) = fs::read_link("/etc/static") {
        template.links.push(("/etc/static".into(), store));
    }
    template
}

fn etc_files(user: &str, home: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let users = format!(
        "root:x:0:0:root:/:/bin/sh\n{user}:x:{PROGRAM_ID}:{PROGRAM_ID}:{user}:{home}:/bin/sh\n\
         nobody:x:65534:65534:nobody:/:/bin/sh\n",
        home = home.display()
    );
    let groups = format!("root:x:0:\n{user}:x:{PROGRAM_ID}:\nnogroup:x:65534:\n");
    [
        ("passwd", users.as_str()),
        ("group", groups.as_str()),
        ("hosts", "127.0.0.1 localhost sandbox\n::1 localhost sandbox\n"),
        ("hostname", "sandbox\n"),
        ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"),
        ("resolv.conf", ""),
    ]
    .into_iter()
    .map(|(name, text)| (Path::new("/etc").join(name), text.as_bytes().to_vec()))
    .collect()
}
