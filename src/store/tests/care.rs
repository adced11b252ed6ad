//! Limits, recency, pins, the walk and the check.

use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

use super::*;

const PIECE: usize = 100 << 10;

fn go_on() -> bool {
    true
}

fn limited(directory: &Path, pieces: u64) -> config::Cache {
    config::Cache {
        max_size: pieces * PIECE as u64,
        ..config(directory)
    }
}

#[tokio::test]
async fn the_upkeep_brings_the_cache_below_its_limit_with_a_margin() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = limited(dir.path(), 1000);
    let store = try_open(&config).unwrap();
    store.load(&go_on);
    for name in 0..100 {
        put(&store, name, PIECE).await;
    }
    config.max_size = 50 * PIECE as u64;
    store.set_limits(&config);
    store.asked_for(Chore::Room).await;
    store.make_room(&go_on);
    assert_eq!(store.stats().bytes, 47 * PIECE as u64);
    assert_eq!(bytes_on_disk(dir.path()), store.stats().bytes);
    assert_eq!(store.stats().objects, 47);
}

#[tokio::test]
async fn a_fill_makes_its_own_room_when_the_upkeep_is_behind() {
    let dir = tempfile::tempdir().unwrap();
    let store = try_open(&limited(dir.path(), 10)).unwrap();
    store.load(&go_on);
    for name in 0..40 {
        put(&store, name, PIECE).await;
        assert!(bytes_on_disk(dir.path()) <= 10 * PIECE as u64);
    }
    assert_eq!(store.stats().bytes, bytes_on_disk(dir.path()));
}

#[tokio::test]
async fn what_is_on_its_way_or_was_left_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = try_open(&limited(dir.path(), 10)).unwrap();
    store.load(&go_on);
    let content = named(0, PIECE);
    let digest = sha256(&content);
    let taken = || store.shared.taken() / PIECE as u64;
    let mut staged = store.stage(&digest, Some(PIECE as u64)).await.unwrap();
    assert_eq!(taken(), 1);
    staged.append(content).await.unwrap();
    staged.flush().await.unwrap();
    staged.park();
    // A claim ends when the writer has lain down.
    while store.shared.claims.contains(&digest) {
        tokio::task::yield_now().await;
    }
    assert_eq!(taken(), 1);
    store.sweep(Duration::MAX).unwrap();
    assert_eq!(taken(), 1);
    let staged = store.stage(&digest, Some(PIECE as u64)).await.unwrap();
    assert_eq!(taken(), 1);
    let _blob = staged.publish().await.unwrap();
    assert_eq!(taken(), 1);
    assert_eq!(store.stats().bytes, PIECE as u64);
}

#[tokio::test]
async fn what_is_being_read_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = limited(dir.path(), 10);
    let store = try_open(&config).unwrap();
    store.load(&go_on);
    let digest = put(&store, 0, PIECE).await;
    let blob = store.blob(&digest).unwrap().unwrap();
    for name in 1..40 {
        put(&store, name, PIECE).await;
    }
    assert!(store.contains(&digest));
    config.max_size = 0;
    store.set_limits(&config);
    store.make_room(&go_on);
    assert_eq!(store.stats().objects, 1);
    assert!(matches!(store.remove(&digest), Ok(Removed::Gone(_))));
    let mut last = [1];
    blob.file.read_exact_at(&mut last, blob.length - 1).unwrap();
    assert!(store.blob(&digest).unwrap().is_none());
}

#[tokio::test]
async fn content_that_may_not_go_leaves_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = limited(dir.path(), 10);
    let store = try_open(&config).unwrap();
    store.load(&go_on);
    for name in 0..5 {
        store.pin(&put(&store, name, PIECE).await);
    }
    config.max_size = 4 * PIECE as u64;
    store.set_limits(&config);
    store.make_room(&go_on);
    assert_eq!(store.stats().objects, 5);
    let content = named(9, PIECE);
    assert!(matches!(
        store.put(&sha256(&content), content).await,
        Err(Error::NoRoom {
            why: NoRoom::Taken { .. },
            ..
        })
    ));
}

#[tokio::test]
async fn recency_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut digests = Vec::new();
    {
        let store = open(dir.path());
        store.load(&go_on);
        for name in 0..40 {
            digests.push(put(&store, name, PIECE).await);
        }
        for name in 100..110 {
            put(&store, name, PIECE).await;
        }
        for digest in digests.iter().step_by(4) {
            store.blob(digest).unwrap().unwrap();
        }
        store.flush().await;
    }
    let store = try_open(&limited(dir.path(), 25)).unwrap();
    // Met again before the order is loaded.
    store.blob(&digests[1]).unwrap().unwrap();
    store.load(&go_on);
    assert_eq!(store.stats().objects, 50);
    store.make_room(&go_on);
    for digest in digests.iter().step_by(4).chain([&digests[1]]) {
        assert!(store.contains(digest), "{digest}");
    }
    assert_eq!(
        walk(&store),
        Walked {
            files: 23,
            ..Walked::default()
        }
    );
}

#[tokio::test]
async fn pins_survive_a_restart_and_everything_else() {
    let dir = tempfile::tempdir().unwrap();
    let later = sha256(&named(7, PIECE));
    let pinned = {
        let store = open(dir.path());
        store.load(&go_on);
        let digest = put(&store, 0, PIECE).await;
        store.pin(&digest);
        store.pin(&later);
        store.flush().await;
        digest
    };
    let mut config = config(dir.path());
    let store = try_open(&config).unwrap();
    store.load(&go_on);
    put(&store, 7, PIECE).await;
    config.max_size = 0;
    store.set_limits(&config);
    store.make_room(&go_on);
    assert_eq!(store.remove(&pinned).unwrap(), Removed::Pinned);
    assert!(store.contains(&pinned) && store.contains(&later));
    assert_eq!(store.stats().pinned_bytes, 2 * PIECE as u64);
    assert!(store.list(0).entries.iter().all(|entry| entry.pinned));
    assert!(store.unpin(&pinned));
    assert!(!store.unpin(&pinned));
    store.make_room(&go_on);
    assert!(!store.contains(&pinned) && store.contains(&later));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_asked_for_within_max_age_goes() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::following(SystemTime::now());
    let store = open_at(&config(dir.path()), clock).unwrap();
    store.load(&go_on);
    let old = put(&store, 0, PIECE).await;
    let used = put(&store, 1, PIECE).await;
    let pinned = put(&store, 2, PIECE).await;
    store.pin(&pinned);
    tokio::time::advance(Duration::from_secs(100)).await;
    store.blob(&used).unwrap();
    tokio::time::advance(Duration::from_secs(10)).await;
    store.expire(Duration::from_secs(50), &go_on);
    assert!(!store.contains(&old));
    assert!(store.contains(&used) && store.contains(&pinned));
}

#[tokio::test]
async fn facts_about_content_that_is_gone_are_forgotten_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.load(&go_on);
    let index = store.index();
    let (stored, gone) = (put(&store, 0, 9).await, sha256(b"gone"));
    let media_type = MediaType::new("a/b").unwrap();
    let (app, tag): (_, Tag) = (target("org/app"), "1".parse().unwrap());
    let record = TagRecord {
        digest: gone,
        media_type: media_type.clone(),
        length: 4,
        checked_at: Clock::System.now(),
    };
    let facts = || {
        (
            index.is_linked(&app, &stored),
            index.is_linked(&app, &gone),
            index.tag(&app, &tag).is_some(),
        )
    };
    index.link(&app, &mut [stored, gone].into_iter());
    index.set_tag(&app, &tag, &record);
    for digest in [stored, gone] {
        index.set_media_type(&digest, &media_type);
    }
    store.prune_index(Duration::from_secs(3600), &go_on);
    assert_eq!(facts(), (true, true, true));
    assert_eq!(index.media_type(&gone), None);
    assert_eq!(index.media_type(&stored), Some(media_type));
    let old = TagRecord {
        checked_at: Default::default(),
        ..record
    };
    index.set_tag(&app, &tag, &old);
    store.prune_index(Duration::from_secs(3600), &go_on);
    assert_eq!(facts(), (true, true, false));
}

#[tokio::test]
async fn the_walk_puts_the_order_right() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.load(&go_on);
    let blobs = dir.path().join("blobs/sha256");
    for name in 0..3000 {
        let digest = sha256(&named(name, 10));
        fs::write(blobs.join(digest.hex()), named(name, 10)).unwrap();
    }
    let known = put(&store, 5000, 10).await;
    let lost = put(&store, 5001, 10).await;
    fs::remove_file(blobs.join(lost.hex())).unwrap();
    fs::write(blobs.join(sha256(b"empty now").hex()), "").unwrap();
    fs::write(blobs.join(sha256(b"").hex()), "").unwrap();
    fs::write(blobs.join("notes.txt"), "not a blob").unwrap();
    fs::create_dir(blobs.join("folder")).unwrap();
    fs::write(dir.path().join("README"), "not weir's").unwrap();
    let found = walk(&store);
    assert_eq!(
        found,
        Walked {
            files: 3003,
            found: 3001,
            lost: 1,
            aside: 2,
            foreign: 2
        }
    );
    assert!(store.contains(&known));
    assert_eq!(store.stats().objects, 3002);
    assert_eq!(names_in(&dir.path().join("quarantine")).len(), 2);
    assert!(dir.path().join("README").exists() && blobs.join("folder").exists());
    assert_eq!(walk(&store).found, 0);
}

#[tokio::test]
async fn the_check_finds_what_the_disk_changed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let good = put(&store, 0, 700_000).await;
    let bad = put(&store, 1, 700_000).await;
    let file = File::options()
        .write(true)
        .open(store.shared.layout.blob(&bad))
        .unwrap();
    file.write_all_at(b"x", 600_000).unwrap();
    for (digest, expected) in [(good, Progress::Good), (bad, Progress::Bad)] {
        let mut check = store.check(&digest).unwrap();
        let end = loop {
            match check.step() {
                Progress::Read(_) => {}
                end @ (Progress::Good | Progress::Bad) => break end,
            }
        };
        assert_eq!(end, expected);
    }
    assert!(store.contains(&good) && !store.contains(&bad));
    assert!(store.check(&bad).is_none());
    put(&store, 1, 700_000).await;
    assert!(store.contains(&bad));
}

#[tokio::test]
async fn stale_partial_files_go_and_those_in_work_stay() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let at_work = store.stage(&sha256(b"a"), None).await.unwrap();
    store.stage(&sha256(b"b"), None).await.unwrap().park();
    fs::write(dir.path().join("staging/notes.txt"), "not weir's").unwrap();
    let hour = Duration::from_secs(3600);
    let swept = store.sweep(hour).unwrap();
    assert_eq!((swept.files, swept.removed), (2, 0));
    for name in names_in(&dir.path().join("staging")) {
        let file = File::options()
            .write(true)
            .open(dir.path().join("staging").join(name));
        file.unwrap()
            .set_modified(SystemTime::now() - 2 * hour)
            .unwrap();
    }
    let swept = store.sweep(hour).unwrap();
    assert_eq!((swept.files, swept.removed), (1, 1));
    for n in 0..40 {
        fs::write(dir.path().join(format!("quarantine/{n}")), "").unwrap();
    }
    for n in 0..3 {
        fs::create_dir(dir.path().join(format!("index.bad-{n}"))).unwrap();
    }
    store.sweep(hour).unwrap();
    assert_eq!(names_in(&dir.path().join("quarantine")).len(), 32);
    let bad = names_in(dir.path())
        .into_iter()
        .filter(|name| name.contains("bad"));
    assert_eq!(bad.count(), 1);
    drop(at_work);
    assert_eq!(names_in(&dir.path().join("staging")), ["notes.txt"]);
}
