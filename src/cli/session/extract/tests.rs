//! Archives as a hostile sandbox would make them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use tar::{Builder, Header};

use super::*;

/// An archive that is written byte by byte: no builder would make these.
#[derive(Default)]
struct Hostile {
    bytes: Vec<u8>,
}

impl Hostile {
    fn add(mut self, kind: EntryType, name: &[u8], link: &[u8], mode: u32, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &[u8]) -> Self {
        self.add(EntryType::Regular, name, b"", 0o644, b"new")
    }

    fn directory(self, name: &[u8]) -> Self {
        self.add(EntryType::Directory, name, b"", 0o755, b"")
    }

    fn link(self, name: &[u8], target: &[u8]) -> Self {
        self.add(EntryType::Symlink, name, target, 0o777, b"")
    }
}

/// A directory to unpack into, and one beside it that nothing may get into.
struct Scene {
    directory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["target", "victim"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        fs::write(directory.path().join("victim/file"), "precious").unwrap();
        Self { directory }
    }

    fn target(&self, name: &str) -> PathBuf {
        self.directory.path().join("target").join(name)
    }

    fn extract(&self, hostile: &Hostile) -> Extracted {
        extract(hostile.bytes.as_slice(), &self.target("")).unwrap()
    }

    /// Everything outside is as it was.
    #[track_caller]
    fn assert_untouched(&self) {
        let names = |path: &Path| {
            let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(self.directory.path()), ["target", "victim"]);
        assert_eq!(names(&self.directory.path().join("victim")), ["file"]);
        assert_eq!(fs::read(self.directory.path().join("victim/file")).unwrap(), b"precious");
    }
}

#[test]
fn files_directories_and_links_inside_are_unpacked() {
    let scene = Scene::new();
    let archive =
        Hostile::default().directory(b"./d/").file(b"./d/f").file(b"x/y/z").link(b"d/l", b"../x/y").link(b"top", b"d");
    assert_eq!(scene.extract(&archive), Extracted::default());
    assert_eq!(fs::read(scene.target("top/l/z")).unwrap(), b"new");
    assert_eq!(fs::read(scene.target("d/f")).unwrap(), b"new");
}

#[test]
fn names_that_lead_out_are_left_out() {
    let scene = Scene::new();
    let absolute = scene.directory.path().join("victim/absolute");
    let archive = Hostile::default()
        .file(b"../victim/x")
        .file(b"a/../../victim/x")
        .file(b"..")
        .file(b"")
        .file(b".")
        .directory(b"../new")
        .link(b"../victim/l", b"file")
        .file(absolute.as_os_str().as_bytes());
    let extracted = scene.extract(&archive);
    assert_eq!(extracted.omitted.len(), 8, "{extracted:?}");
    scene.assert_untouched();
}

#[test]
fn nothing_goes_through_a_link() {
    let scene = Scene::new();
    symlink("../victim", scene.target("old")).unwrap();
    let archive = Hostile::default()
        .link(b"new", b"../victim")
        .file(b"new/file")
        .file(b"old/file")
        .directory(b"old/d")
        .link(b"a", b"b")
        .file(b"a/x");
    let extracted = scene.extract(&archive);
    scene.assert_untouched();
    // What was to go through a link of the archive's own is a directory by then, and stays one.
    assert_eq!(fs::read(scene.target("new/file")).unwrap(), b"new");
    assert!(!scene.target("new").is_symlink() && !scene.target("a").is_symlink());
    assert_eq!(extracted.omitted.len(), 4, "{extracted:?}");
}

#[test]
fn a_link_in_the_way_is_replaced_and_what_it_leads_to_stays() {
    let scene = Scene::new();
    symlink("../victim/file", scene.target("l")).unwrap();
    fs::hard_link(scene.directory.path().join("victim/file"), scene.target("hard")).unwrap();
    assert_eq!(scene.extract(&Hostile::default().file(b"l").file(b"hard")), Extracted::default());
    scene.assert_untouched();
    assert_eq!(fs::read(scene.target("l")).unwrap(), b"new");
    assert_eq!(fs::read(scene.target("hard")).unwrap(), b"new");
}

#[test]
fn links_that_lead_out_are_left_out() {
    let scene = Scene::new();
    let archive = Hostile::default()
        .link(b"absolute", b"/etc/passwd")
        .link(b"up", b"../victim")
        .link(b"d/up", b"../../victim")
        .link(b"detour", b"d/../../victim")
        .link(b"empty", b"")
        .link(b"one", b"x/y")
        .link(b"x/y", b"..")
        // Inside by its text; outside by where the two before lead, were it made.
        .link(b"two", b"one/../../victim");
    let extracted = scene.extract(&archive);
    assert_eq!(extracted.omitted.len(), 6, "{extracted:?}");
    for name in ["absolute", "up", "d/up", "detour", "empty", "two"] {
        assert!(!scene.target(name).is_symlink(), "{name}");
    }
    assert!(scene.target("one").is_symlink());
}

#[test]
fn a_link_by_way_of_one_that_was_there_is_taken_away() {
    let scene = Scene::new();
    symlink("../victim", scene.target("mine")).unwrap();
    let extracted = scene.extract(&Hostile::default().link(b"l", b"mine/file"));
    assert_eq!(extracted.omitted.len(), 1, "{extracted:?}");
    assert!(!scene.target("l").is_symlink() && scene.target("mine").is_symlink());
}

#[test]
fn devices_pipes_and_hard_links_are_left_out() {
    let scene = Scene::new();
    let mut archive = Hostile::default();
    for (name, kind) in
        [(b"c", EntryType::Char), (b"b", EntryType::Block), (b"p", EntryType::Fifo), (b"s", EntryType::GNUSparse)]
    {
        archive = archive.add(kind, name, b"", 0o666, b"");
    }
    archive = archive.add(EntryType::Link, b"h", b"../victim/file", 0o644, b"");
    let extracted = scene.extract(&archive);
    assert_eq!(extracted.omitted.len(), 5, "{extracted:?}");
    assert_eq!(fs::read_dir(scene.target("")).unwrap().count(), 0);
    scene.assert_untouched();
}

#[test]
fn no_file_gets_rights_of_a_strangers_making() {
    let scene = Scene::new();
    let archive = Hostile::default()
        .add(EntryType::Regular, b"setuid", b"", 0o6777, b"x")
        .add(EntryType::Regular, b"plain", b"", 0o7666, b"x")
        .add(EntryType::Directory, b"sticky", b"", 0o7777, b"");
    assert_eq!(scene.extract(&archive), Extracted::default());
    let mode = |name: &str| fs::metadata(scene.target(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("setuid") & !0o755, 0);
    assert_eq!((mode("setuid") & 0o100, mode("plain") & !0o644), (0o100, 0));
    assert_eq!(mode("sticky") & !0o755, 0);
    assert_eq!(fs::metadata(scene.target("setuid")).unwrap().uid(), nix::unistd::getuid().as_raw());
}

#[test]
fn a_directory_is_not_replaced_by_a_file() {
    let scene = Scene::new();
    fs::create_dir(scene.target("d")).unwrap();
    fs::write(scene.target("d/keep"), "mine").unwrap();
    fs::write(scene.target("f"), "mine").unwrap();
    let extracted = scene.extract(&Hostile::default().file(b"d").link(b"d", b"f").file(b"f/below"));
    assert_eq!(extracted.omitted.len(), 3, "{extracted:?}");
    assert_eq!(fs::read(scene.target("d/keep")).unwrap(), b"mine");
}

#[test]
fn long_names_are_understood_up_to_a_limit() {
    let scene = Scene::new();
    let name = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    let mut bytes = Vec::new();
    let mut builder = Builder::new(&mut bytes);
    let mut header = Header::new_gnu();
    header.set_size(2);
    header.set_mode(0o644);
    builder.append_data(&mut header, &name, &b"hi"[..]).unwrap();
    builder.finish().unwrap();
    drop(builder);
    assert_eq!(extract(bytes.as_slice(), &scene.target("")).unwrap(), Extracted::default());
    assert_eq!(fs::read(scene.target(&name)).unwrap(), b"hi");

    let pax = Hostile::default().add(EntryType::XHeader, b"pax", b"", 0o644, b"22 path=../victim/pax\n").file(b"x");
    assert_eq!(scene.extract(&pax).omitted.len(), 1);
    scene.assert_untouched();

    let endless = Hostile::default().add(EntryType::GNULongName, b"l", b"", 0, &vec![b'a'; 70_000]).file(b"x");
    let error = extract(endless.bytes.as_slice(), &scene.target("")).unwrap_err();
    assert!(error.to_string().contains("65536"), "{error}");
}

#[test]
fn what_is_no_archive_is_an_error() {
    let scene = Scene::new();
    let noise: Vec<u8> = (0..2048u32).map(|number| number.to_le_bytes()[0] | 1).collect();
    assert!(extract(noise.as_slice(), &scene.target("")).is_err());
    let whole = Hostile::default().add(EntryType::Regular, b"f", b"", 0o644, &[b'x'; 5000]);
    assert!(extract(&whole.bytes[..1500], &scene.target("")).is_err(), "half a file is no file");
}

#[test]
fn only_the_first_of_many_are_told_one_by_one() {
    let scene = Scene::new();
    let archive = (0..50).fold(Hostile::default(), |archive, _| archive.file(b"../x"));
    let extracted = scene.extract(&archive);
    assert_eq!((extracted.omitted.len(), extracted.more), (TOLD, 50 - TOLD));
}

#[test]
fn names_can_not_drive_the_terminal() {
    let scene = Scene::new();
    let extracted = scene.extract(&Hostile::default().file(b"../\x1b[2J"));
    assert!(!extracted.omitted[0].contains('\x1b'), "{extracted:?}");
}
