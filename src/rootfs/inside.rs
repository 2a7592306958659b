//! Files inside the root filesystem. Everything there may be hostile and may change under our
//! hands, so every path is resolved by the kernel below one descriptor (openat2(2)
//! RESOLVE_IN_ROOT) and whatever is made is made on the descriptor of its directory.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat, makedev, mkdirat};

use crate::error::{Context, Fault, Kind, Result};
use crate::plan::mounts::InsidePath;
use crate::sys::Sys;

/// openat2(2) says EAGAIN when something was renamed meanwhile; so many tries are enough unless
/// somebody renames on purpose.
const TRIES: usize = 128;

/// So many links that lead nowhere may follow each other, as in the kernel (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// The root of the container's file system.
#[derive(Debug)]
pub struct RootDir(OwnedFd);

impl AsFd for RootDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl RootDir {
    /// The root that `fd` is open on (O_PATH will do).
    pub fn from_fd(fd: OwnedFd) -> Self {
        RootDir(fd)
    }

    /// A directory of this process's own view.
    pub fn open_at(path: &Path) -> Sys<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        openat(AT_FDCWD, path, flags, Mode::empty()).map(RootDir)
    }

    /// The root directory of this process.
    pub fn current() -> Sys<Self> {
        Self::open_at(Path::new("/"))
    }

    fn resolve(&self, path: &CStr, flags: OFlag, mode: Mode, resolve: ResolveFlag) -> Sys<OwnedFd> {
        let resolve = resolve | ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).mode(mode).resolve(resolve);
        for _ in 1..TRIES {
            match openat2(&self.0, path, how) {
                Err(Errno::EAGAIN) => {}
                result => return result,
            }
        }
        openat2(&self.0, path, how)
    }

    /// Opens what is there; links are followed inside the root. Close-on-exec.
    pub fn open(&self, path: &InsidePath, flags: OFlag) -> Sys<OwnedFd> {
        self.resolve(path.as_c_str(), flags, Mode::empty(), ResolveFlag::empty())
    }

    /// As [`RootDir::open`], but a link anywhere in the path is ELOOP.
    pub fn open_without_links(&self, path: &InsidePath, flags: OFlag) -> Sys<OwnedFd> {
        self.resolve(path.as_c_str(), flags, Mode::empty(), ResolveFlag::RESOLVE_NO_SYMLINKS)
    }

    /// Opens a directory (O_PATH).
    pub fn open_dir(&self, path: &InsidePath) -> Sys<OwnedFd> {
        self.open(path, OFlag::O_PATH | OFlag::O_DIRECTORY)
    }

    /// Opens a directory (O_PATH), making what is missing with `mode`. Links are followed inside
    /// the root; where one leads nowhere, its target is made (images have such mount points).
    pub fn create_dir_all(&self, path: &InsidePath, mode: Mode) -> Sys<OwnedFd> {
        self.create_dirs(path, mode, ResolveFlag::empty(), 0)
    }

    /// As [`RootDir::create_dir_all`], but a link anywhere in the path is ELOOP.
    pub fn create_dir_all_without_links(&self, path: &InsidePath, mode: Mode) -> Sys<OwnedFd> {
        self.create_dirs(path, mode, ResolveFlag::RESOLVE_NO_SYMLINKS, 0)
    }

    fn create_dirs(
        &self,
        path: &InsidePath,
        mode: Mode,
        resolve: ResolveFlag,
        links: usize,
    ) -> Sys<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        match self.resolve(path.as_c_str(), flags, Mode::empty(), resolve) {
            Err(Errno::ENOENT) => self.create_missing_dir(path, mode, resolve, links),
            result => result,
        }
    }

    fn create_missing_dir(
        &self,
        path: &InsidePath,
        mode: Mode,
        resolve: ResolveFlag,
        links: usize,
    ) -> Sys<OwnedFd> {
        let (parent, name) = path.split().ok_or(Errno::ENOENT)?;
        let parent = self.create_dirs(&parent, mode, resolve, links)?;
        match mkdirat(&parent, name, mode) {
            Ok(()) => {}
            Err(Errno::EEXIST) if resolve.is_empty() && links < MAX_LINKS => {
                if let Ok(target) = readlinkat(&parent, name) {
                    let target = path.beside(Path::new(&target)).ok_or(Errno::ENOENT)?;
                    return self.create_dirs(&target, mode, resolve, links + 1);
                }
            }
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        // What was made may have been replaced meanwhile: never through a link.
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(&parent, name, flags, Mode::empty())
    }

    /// Makes a mount point that was found missing: an empty file or a directory, with the
    /// directories above it (0755). With `links`, those above may be links inside the root.
    pub(super) fn create_mount_point(
        &self,
        path: &InsidePath,
        file: bool,
        links: bool,
    ) -> Sys<OwnedFd> {
        let resolve = if links { ResolveFlag::empty() } else { ResolveFlag::RESOLVE_NO_SYMLINKS };
        let mode = Mode::from_bits_truncate(0o755);
        if !file {
            return self.create_missing_dir(path, mode, resolve, 0);
        }
        let (parent, name) = path.split().ok_or(Errno::EISDIR)?;
        let parent = self.create_dirs(&parent, mode, resolve, 0)?;
        create_file_in(parent.as_fd(), name, Mode::from_bits_truncate(0o644))
    }

    /// Reads a regular file of at most `max` bytes. The errno (ENOENT) is in the chain.
    pub fn read_bounded(&self, path: &InsidePath, max: usize) -> Result<Vec<u8>> {
        // Not to hang on a FIFO, nor to take a terminal.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = self.open(path, flags).with_context(|| format!("cannot open {path}"))?;
        if file_type(file.as_fd()).with_context(|| format!("cannot stat {path}"))? != SFlag::S_IFREG
        {
            let message = format!("{path} in the container is not a regular file");
            return Err(Fault::new(Kind::BadInput, message).into());
        }
        let mut content = Vec::new();
        let mut limited = std::io::Read::take(std::fs::File::from(file), max as u64 + 1);
        std::io::Read::read_to_end(&mut limited, &mut content)
            .with_context(|| format!("cannot read {path}"))?;
        if content.len() > max {
            let message = format!("{path} in the container has more than {max} bytes");
            return Err(Fault::new(Kind::BadInput, message).into());
        }
        Ok(content)
    }

    /// The container's /dev/null, for reading and writing; anything else of that name is refused
    /// (CVE-2025-31133, CVE-2026-88265).
    pub fn open_dev_null(&self) -> Result<OwnedFd> {
        let path = InsidePath::new("dev/null", "/dev/null")?;
        // The first look keeps us from opening, which may act, what is not /dev/null.
        for flags in [OFlag::O_PATH, OFlag::O_RDWR | OFlag::O_NOCTTY] {
            let file = self
                .open(&path, flags | OFlag::O_NOFOLLOW)
                .context("cannot open /dev/null in the container")?;
            check_dev_null(file.as_fd())?;
            if !flags.contains(OFlag::O_PATH) {
                return Ok(file);
            }
        }
        Err(Errno::ENOENT.into())
    }
}

/// Fails unless `file` is open (O_PATH will do) on character device 1:3.
pub fn check_dev_null(file: BorrowedFd<'_>) -> Result<()> {
    let stat = fstat(file).context("cannot stat /dev/null in the container")?;
    if kind_of(stat.st_mode) == SFlag::S_IFCHR && stat.st_rdev == makedev(1, 3) {
        return Ok(());
    }
    let message = "/dev/null in the container is not the null device (character device 1:3)";
    Err(Fault::bad_input(message).hint("mount a tmpfs on /dev, or fix the root filesystem").into())
}

/// Makes an empty file in a directory, never through a link.
pub fn create_file_in(dir: BorrowedFd<'_>, name: &CStr, mode: Mode) -> Sys<OwnedFd> {
    let flags =
        OFlag::O_RDONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(dir, name, flags, mode)
}

/// S_IFREG and so on, of what is open.
pub fn file_type(file: BorrowedFd<'_>) -> Sys<SFlag> {
    fstat(file).map(|stat| kind_of(stat.st_mode))
}

/// The type in a mode.
pub fn kind_of(mode: libc::mode_t) -> SFlag {
    SFlag::from_bits_truncate(mode) & SFlag::S_IFMT
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn path(text: &str) -> InsidePath {
        InsidePath::new(text, "test").unwrap()
    }

    fn root() -> (tempfile::TempDir, RootDir) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        let root = RootDir::open_at(&dir.path().join("root")).unwrap();
        (dir, root)
    }

    #[test]
    fn links_stay_inside() {
        let (dir, root) = root();
        std::fs::write(dir.path().join("secret"), "host").unwrap();
        symlink("../secret", dir.path().join("root/up")).unwrap();
        symlink(dir.path().join("secret"), dir.path().join("root/abs")).unwrap();
        for name in ["up", "abs"] {
            let error = root.read_bounded(&path(name), 100).unwrap_err();
            assert_eq!(error.downcast_ref::<Errno>(), Some(&Errno::ENOENT), "{name}");
        }
        std::fs::write(dir.path().join("root/secret"), "inside").unwrap();
        assert_eq!(root.read_bounded(&path("up"), 100).unwrap(), b"inside");
    }

    #[test]
    fn directories_are_made_inside_only() {
        let (dir, root) = root();
        root.create_dir_all(&path("a/b/c"), Mode::from_bits_truncate(0o755)).unwrap();
        assert!(dir.path().join("root/a/b/c").is_dir());
        // A link to a missing directory is not a way to make it.
        symlink("/nowhere", dir.path().join("root/link")).unwrap();
        let result = root.create_dir_all(&path("link/x"), Mode::from_bits_truncate(0o755));
        assert_eq!(result.unwrap_err(), Errno::ENOTDIR);
        assert!(!dir.path().join("root/nowhere").exists());
        // A link inside is followed, unless links are refused.
        symlink("a", dir.path().join("root/good")).unwrap();
        root.create_dir_all(&path("good/d"), Mode::from_bits_truncate(0o755)).unwrap();
        assert!(dir.path().join("root/a/d").is_dir());
        let result = root.create_dir_all_without_links(&path("good/e"), Mode::empty());
        assert_eq!(result.unwrap_err(), Errno::ELOOP);
    }

    #[test]
    fn files_are_never_made_through_links() {
        let (dir, root) = root();
        symlink("/target", dir.path().join("root/link")).unwrap();
        let result = root.create_mount_point(&path("link"), true, true);
        assert_eq!(result.unwrap_err(), Errno::EEXIST);
        assert!(!dir.path().join("root/target").exists());
        root.create_mount_point(&path("new/file"), true, false).unwrap();
        assert!(dir.path().join("root/new/file").is_file());
    }

    #[test]
    fn reading_is_bounded_and_never_hangs() {
        let (dir, root) = root();
        std::fs::write(dir.path().join("root/five"), "12345").unwrap();
        assert_eq!(root.read_bounded(&path("five"), 5).unwrap(), b"12345");
        assert!(root.read_bounded(&path("five"), 4).is_err());
        nix::unistd::mkfifo(&dir.path().join("root/fifo"), Mode::S_IRWXU).unwrap();
        let error = root.read_bounded(&path("fifo"), 4).unwrap_err();
        assert_eq!(error.to_string(), "/fifo in the container is not a regular file");
    }

    #[test]
    fn a_replaced_dev_null_is_refused() {
        let (dir, root) = root();
        std::fs::create_dir(dir.path().join("root/dev")).unwrap();
        std::fs::write(dir.path().join("root/dev/file"), "x").unwrap();
        symlink("file", dir.path().join("root/dev/null")).unwrap();
        assert!(root.open_dev_null().is_err());
        std::fs::remove_file(dir.path().join("root/dev/null")).unwrap();
        std::fs::write(dir.path().join("root/dev/null"), "x").unwrap();
        assert!(root.open_dev_null().unwrap_err().to_string().contains("not the null device"));
        let host = RootDir::current().unwrap();
        host.open_dev_null().unwrap();
    }
}
