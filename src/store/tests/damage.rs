//! What a kill, a full disk, a damaged index or somebody else's hands leave behind.

use super::*;

fn go_on() -> bool {
    true
}

/// The directory as a power loss would leave it now, without the lock.
fn crash_image(of: &Path) -> tempfile::TempDir {
    let image = tempfile::tempdir().unwrap();
    let copied = Command::new("cp")
        .arg("-a")
        .arg(of.join("."))
        .arg(image.path())
        .status();
    assert!(copied.unwrap().success());
    image
}

/// Everything under a digest is what the digest says.
fn assert_blobs_are_right(directory: &Path) {
    for name in names_in(&directory.join("blobs/sha256")) {
        let content = fs::read(directory.join("blobs/sha256").join(&name)).unwrap();
        assert_eq!(sha256(&content).hex(), name);
    }
}

#[tokio::test]
async fn a_kill_at_any_moment_leaves_only_right_blobs_and_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.load(&go_on);
    let app = target("org/app");
    for round in 0..12 {
        for name in 0..20 {
            let digest = put(&store, round * 100 + name, 1000).await;
            store.index().link(&app, &mut [digest].into_iter());
        }
        if round % 3 == 0 {
            store.tell_index();
        }
        let half = named(round, 500_000);
        let mut staged = store.stage(&sha256(&half), Some(500_000)).await.unwrap();
        staged.append(half.slice(..200_000)).await.unwrap();
        let image = crash_image(dir.path());
        drop(staged);

        let again = open(image.path());
        assert_blobs_are_right(image.path());
        again.load(&go_on);
        let walked = walk(&again);
        assert_eq!((walked.files, walked.aside), (store.stats().objects, 0));
        assert_eq!(again.stats().objects, store.stats().objects);
        let mut staged = again.stage(&sha256(&half), Some(500_000)).await.unwrap();
        let written = usize::try_from(staged.written()).unwrap();
        staged.append(half.slice(written..)).await.unwrap();
        staged.publish().await.unwrap();
    }
}

#[tokio::test]
async fn a_damaged_index_costs_no_blob() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = open(dir.path());
        store.load(&go_on);
        for name in 0..500 {
            put(&store, name, 100).await;
        }
        store.flush().await;
    }
    let damages: [fn(&Path); 5] = [
        |index| fs::remove_dir_all(index).unwrap(),
        |index| {
            let db = File::options().write(true).open(index.join("db")).unwrap();
            db.set_len(db.metadata().unwrap().len() / 2).unwrap();
        },
        |index| fs::write(index.join("db"), [7; 5000]).unwrap(),
        |index| {
            for name in names_in(index)
                .iter()
                .filter(|name| name.starts_with("snap"))
            {
                let mut snapshot = fs::read(index.join(name)).unwrap();
                snapshot.iter_mut().skip(9).for_each(|byte| *byte ^= 0x55);
                fs::write(index.join(name), snapshot).unwrap();
            }
        },
        |index| fs::write(index.join("conf"), "nonsense").unwrap(),
    ];
    for (at, damage) in damages.into_iter().enumerate() {
        let image = crash_image(dir.path());
        damage(&image.path().join("index"));
        let store = open(image.path());
        store.load(&go_on);
        walk(&store);
        assert_eq!(store.stats().objects, 500, "damage {at}");
        let digest = sha256(&named(3, 100));
        assert_eq!(store.read(&digest, 100).await.unwrap(), Some(named(3, 100)));
        store.index().link(&target("a"), &mut [digest].into_iter());
        assert!(
            store.index().is_linked(&target("a"), &digest),
            "damage {at}"
        );
        store.flush().await;
        drop(store);
        let store = open(image.path());
        store.load(&go_on);
        assert_eq!(store.stats().objects, 500, "damage {at}");
    }
}

#[tokio::test]
async fn a_blob_that_somebody_cut_or_removed_is_absent() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (cut, removed) = (put(&store, 0, 5000).await, put(&store, 1, 5000).await);
    let file = File::options()
        .write(true)
        .open(store.shared.layout.blob(&cut))
        .unwrap();
    file.set_len(4000).unwrap();
    fs::remove_file(store.shared.layout.blob(&removed)).unwrap();
    assert!(store.blob(&cut).unwrap().is_none());
    assert!(store.blob(&removed).unwrap().is_none());
    assert!(!store.contains(&cut));
    assert_eq!(store.stats().bytes, 0);
    put(&store, 0, 5000).await;
    put(&store, 1, 5000).await;
    assert_eq!(store.stats().bytes, 10_000);
}

#[tokio::test]
async fn a_write_to_a_full_disk_is_no_room_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let digest = sha256(b"right");
    // Every write to this device fails like one to a full disk.
    std::os::unix::fs::symlink("/dev/full", store.shared.layout.staged(&digest)).unwrap();
    let mut staged = store.stage(&digest, Some(5)).await.unwrap();
    let _ = staged.append(Bytes::from_static(b"right")).await;
    assert!(matches!(
        staged.flush().await,
        Err(Error::NoRoom {
            why: NoRoom::DiskFull,
            ..
        })
    ));
    assert!(matches!(
        staged.publish().await,
        Err(PublishError::Io(Error::NoRoom { .. }))
    ));
    assert!(names_in(&dir.path().join("staging")).is_empty());
    store
        .put(&digest, Bytes::from_static(b"right"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_full_disk_stops_storing_and_nothing_else() {
    let Some(disk) = SmallDisk::mount(16 << 20) else {
        eprintln!("no tmpfs can be mounted here; not tested");
        return;
    };
    let config = config(disk.path());
    let store = try_open(&config).unwrap();
    store.load(&go_on);
    let app = target("org/app");
    let stored = put(&store, 0, 1000).await;
    store.pin(&stored);
    store.tell_index();
    let ballast = disk.path().join("ballast");
    let mut filler = File::create(&ballast).unwrap();
    while std::io::Write::write_all(&mut filler, &[1; 4096]).is_ok() {}

    let large = named(1, 1 << 20);
    let refused = store.put(&sha256(&large), large.clone()).await.unwrap_err();
    assert!(matches!(refused, Error::NoRoom { .. }), "{refused}");
    for n in 0..20_000_u32 {
        let digest = sha256(&n.to_be_bytes());
        store.index().link(&app, &mut [digest].into_iter());
    }
    store.tell_index();
    assert!(store.shared.index.is_behind());
    assert!(store.shared.layout.reserve().exists());
    store.mend_index();
    assert!(!store.shared.index.is_behind());
    assert!(!store.shared.layout.reserve().exists());
    assert_eq!(
        store.read(&stored, 1000).await.unwrap(),
        Some(named(0, 1000))
    );

    drop(filler);
    fs::remove_file(&ballast).unwrap();
    store.index().link(&app, &mut [stored].into_iter());
    assert!(store.index().is_linked(&app, &stored));
    put(&store, 1, 1 << 20).await;
    store.flush().await;
    drop(store);
    let store = try_open(&config).unwrap();
    store.load(&go_on);
    assert_eq!(store.stats().objects, 2);
    assert!(store.list(0).entries.iter().any(|entry| entry.pinned));
}

#[tokio::test]
async fn min_free_is_kept_by_eviction() {
    let Some(disk) = SmallDisk::mount(32 << 20) else {
        eprintln!("no tmpfs can be mounted here; not tested");
        return;
    };
    let config = config::Cache {
        min_free: 8 << 20,
        ..config(disk.path())
    };
    let store = try_open(&config).unwrap();
    store.load(&go_on);
    for name in 0..60 {
        put(&store, name, 1 << 20).await;
        assert!(store.shared.space.free_now().unwrap() >= 8 << 20);
    }
    fs::write(disk.path().join("of others"), vec![1; 4 << 20]).unwrap();
    store.make_room(&go_on);
    assert!(store.shared.space.free_now().unwrap() >= 8 << 20);
    assert!(store.stats().objects > 5);
}

#[test]
fn a_read_only_disk_is_one_clear_line() {
    let Some(disk) = SmallDisk::mount(16 << 20) else {
        eprintln!("no tmpfs can be mounted here; not tested");
        return;
    };
    drop(open(disk.path()));
    disk.remount("ro");
    let refused = try_open(&config(disk.path())).unwrap_err();
    assert!(matches!(refused, OpenError::Unwritable { .. }));
    let line = refused.to_string();
    assert!(
        line.contains("Read-only file system") && !line.contains('\n'),
        "{line}"
    );
}
