//! Watching the config file and every file that it names.
//!
//! The kernel says that something happened in a directory, the content decides whether it is a
//! change. So it does not matter how a file is replaced: written over, renamed over, or by the
//! `..data` link of Kubernetes, which swaps a whole directory. Where the kernel says nothing, as on
//! network file systems, the files are looked at now and then.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::hash::BuildHasher as _;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, INotifyWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::reload::{Because, Reloader};

/// Files that change together are taken up together.
const SETTLE: Duration = Duration::from_millis(200);
/// Looks at files that go on changing before they are taken as they are.
const LOOKS_MAX: usize = 5;
/// How often the files are looked at although nothing was heard.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The same where nothing can be heard.
const LOOK_EVERY_DEAF: Duration = Duration::from_secs(1);
/// Of a larger file the beginning and the length decide.
const LOOKED_AT_BYTES_MAX: u64 = 4 << 20;

/// Each file and its content; `None` where it cannot be read.
type Seen = BTreeMap<PathBuf, Option<u64>>;

/// Files, and what was in them when they were last looked at.
pub(super) struct Watched {
    contents: Arc<Contents>,
    files: Vec<PathBuf>,
    known: Seen,
}

impl Watched {
    /// Looks at the files. Asked for as soon as they are read, so that no change falls between.
    pub(super) async fn now(files: &[PathBuf]) -> Watched {
        let contents = Arc::new(Contents::default());
        Watched {
            known: contents.of(files).await,
            files: files.to_vec(),
            contents,
        }
    }
}

/// Asks for a reload whenever a watched file changes, until `stop`.
pub(super) async fn watch(watched: Watched, reloader: Arc<Reloader>, stop: CancellationToken) {
    let Watched {
        contents,
        mut files,
        mut known,
    } = watched;
    let mut ears = Ears::open();
    // What changed before anybody listened is found by a look.
    let mut hears_all = false;
    loop {
        let heard_all = std::mem::replace(&mut hears_all, ears.listen_to(&files));
        let look_every = match (files.is_empty(), heard_all && hears_all) {
            // Nothing can change until somebody asks for a reload.
            (true, _) => None,
            (false, true) => Some(LOOK_EVERY),
            (false, false) => Some(LOOK_EVERY_DEAF),
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = ears.hear() => sleep(SETTLE).await,
            () = reloader.reloaded() => {}
            () = pause(look_every) => {}
        }
        ears.forget();
        let said = reloader.config().files.clone();
        if said != files {
            files = said;
            known = contents.of(&files).await;
            continue;
        }
        // Looked at before the reload: what changes meanwhile is another change.
        let found = settled(&contents, &files, &known).await;
        let because = match found != known {
            true => Because::Changed,
            false if reloader.is_refused() => Because::Refused,
            false => continue,
        };
        known = found;
        // It is logged and counted there, and there is nobody else to tell.
        let _ = reloader.reload(because).await;
    }
}

/// What is in the files when they have stopped changing: a certificate and its key are not replaced
/// at one moment. Who never stops is not waited for.
async fn settled(contents: &Arc<Contents>, files: &[PathBuf], known: &Seen) -> Seen {
    let mut found = contents.of(files).await;
    for _ in 0..LOOKS_MAX {
        if found == *known {
            break;
        }
        sleep(SETTLE).await;
        let before = std::mem::replace(&mut found, contents.of(files).await);
        if found == before {
            break;
        }
    }
    found
}

async fn pause(duration: Option<Duration>) {
    match duration {
        Some(duration) => sleep(duration).await,
        None => std::future::pending().await,
    }
}

/// What the kernel says.
struct Ears {
    /// `None`: the kernel has no more watchers to give.
    watcher: Option<INotifyWatcher>,
    directories: BTreeSet<PathBuf>,
    heard: mpsc::Receiver<()>,
}

impl Ears {
    fn open() -> Self {
        let (tell, heard) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // A full channel says it already.
            if event.map_or(true, |event| may_change(&event.kind)) {
                let _ = tell.try_send(());
            }
        });
        let watcher = watcher
            .inspect_err(|error| tracing::debug!(%error, "files are looked at instead of watched"));
        Ears {
            watcher: watcher.ok(),
            directories: BTreeSet::new(),
            heard,
        }
    }

    /// `false`: of some nothing will be heard.
    fn listen_to(&mut self, files: &[PathBuf]) -> bool {
        let Some(watcher) = &mut self.watcher else {
            return false;
        };
        let directories: BTreeSet<_> = files.iter().flat_map(|file| places(file)).collect();
        for gone in self.directories.difference(&directories) {
            // A directory that was removed is not watched any more anyway.
            let _ = watcher.unwatch(gone);
        }
        let watched = directories.into_iter().filter(|directory| {
            let watched = watcher.watch(directory, RecursiveMode::NonRecursive);
            watched.is_ok()
        });
        self.directories = watched.collect();
        let is_heard = |file: &PathBuf| places(file).all(|place| self.directories.contains(&place));
        files.iter().all(is_heard)
    }

    async fn hear(&mut self) {
        if self.heard.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    fn forget(&mut self) {
        while self.heard.try_recv().is_ok() {}
    }
}

/// Reading a file changes nothing, and weir itself reads.
fn may_change(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(access) => *access == AccessKind::Close(AccessMode::Write),
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}

/// The directory in which a file is named, and the one where it lies.
fn places(file: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let named = directory_of(file);
    let lies = file.canonicalize().ok().map(|file| directory_of(&file));
    [Some(named), lies].into_iter().flatten()
}

fn directory_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

/// Tells contents apart without keeping them: some are secrets.
#[derive(Default)]
struct Contents(RandomState);

impl Contents {
    async fn of(self: &Arc<Self>, files: &[PathBuf]) -> Seen {
        let (contents, files) = (Arc::clone(self), files.to_vec());
        let looking = spawn_blocking(move || {
            let seen = files.into_iter().map(|file| {
                let content = contents.look_at(&file).ok();
                (file, content)
            });
            seen.collect()
        });
        looking.await.unwrap_or_default()
    }

    fn look_at(&self, path: &Path) -> io::Result<u64> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut content = Vec::new();
        file.take(LOOKED_AT_BYTES_MAX).read_to_end(&mut content)?;
        Ok(self.0.hash_one((length, content)))
    }
}
