//! The store as its callers see it.

mod care;
mod damage;

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use super::*;
use crate::oci::{Algorithm, MediaType, Tag, Target};

fn config(directory: &Path) -> config::Cache {
    config::Cache {
        directory: directory.to_owned(),
        max_size: 1 << 30,
        min_free: 0,
        max_age: None,
        scrub_rate: 0,
        flights_max: 100,
    }
}

fn open(directory: &Path) -> Store {
    try_open(&config(directory)).unwrap()
}

fn try_open(config: &config::Cache) -> Result<Store, OpenError> {
    open_at(config, Clock::System)
}

fn open_at(config: &config::Cache, clock: Clock) -> Result<Store, OpenError> {
    let metrics = Metrics::new(&prometheus::Registry::new());
    Store::open(config, clock, metrics)
}

fn sha256(content: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, content)
}

fn target(name: &str) -> Target {
    Target::new("ghcr.io".parse().unwrap(), name.parse().unwrap())
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn content(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(length as u64);
    std::iter::repeat_with(|| random.u8(..))
        .take(length)
        .collect()
}

/// Puts content of this length, made from `name`.
async fn put(store: &Store, name: u64, length: usize) -> Digest {
    let content = named(name, length);
    let digest = sha256(&content);
    store.put(&digest, content).await.unwrap();
    digest
}

fn named(name: u64, length: usize) -> Bytes {
    let mut content = name.to_be_bytes().to_vec();
    content.resize(length, 0);
    content.into()
}

/// Bytes of the files of blobs.
fn bytes_on_disk(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory.join("blobs/sha256")).unwrap();
    entries
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum()
}

fn walk(store: &Store) -> Walked {
    let mut walk = store.walk().unwrap();
    loop {
        if let Some(walked) = walk.step(10).unwrap() {
            return walked;
        }
    }
}

/// A file system of so many bytes, where the tests may mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={bytes}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(dir.path())
            .output();
        mounted
            .is_ok_and(|output| output.status.success())
            .then(|| SmallDisk(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn remount(&self, option: &str) {
        let option = format!("remount,{option}");
        let done = Command::new("mount")
            .args(["-o", &option])
            .arg(self.path())
            .status();
        assert!(done.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[tokio::test]
async fn content_comes_back_as_it_was_put() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for algorithm in Algorithm::ALL {
        let content = Bytes::from(content(70_000));
        let digest = Digest::of(algorithm, &content);
        assert!(!store.contains(&digest));
        assert!(store.blob(&digest).unwrap().is_none());
        let blob = store.put(&digest, content.clone()).await.unwrap();
        assert_eq!(blob.length, 70_000);
        assert_eq!(store.blob(&digest).unwrap().unwrap().length, 70_000);
        assert_eq!(store.read(&digest, 70_000).await.unwrap(), Some(content));
        assert!(matches!(
            store.read(&digest, 69_999).await,
            Err(Error::TooLarge { .. })
        ));
    }
    assert!(names_in(&dir.path().join("staging")).is_empty());
}

#[tokio::test]
async fn a_reader_sees_the_growing_file_up_to_the_frontier() {
    use std::os::unix::fs::FileExt;

    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let content = content(5 << 20);
    let digest = sha256(&content);
    let mut staged = store.stage(&digest, Some(5 << 20)).await.unwrap();
    let file = staged.file();
    for piece in content.chunks(30_000) {
        staged.append(Bytes::copy_from_slice(piece)).await.unwrap();
        let mut seen = vec![0; usize::try_from(staged.written()).unwrap()];
        file.read_exact_at(&mut seen, 0).unwrap();
        assert!(content.starts_with(&seen));
    }
    staged.flush().await.unwrap();
    assert_eq!(staged.written(), 5 << 20);
    staged.verify().await.unwrap();
    assert!(!store.contains(&digest));
    staged.publish().await.unwrap();
    assert!(store.contains(&digest));
}

#[tokio::test]
async fn a_piece_is_written_without_further_calls() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let digest = sha256(b"first byte");
    let mut staged = store.stage(&digest, None).await.unwrap();
    let mut frontier = staged.frontier();
    staged.append(Bytes::from_static(b"first")).await.unwrap();
    frontier.wait_for(|written| *written == 5).await.unwrap();
}

#[tokio::test]
async fn wrong_content_is_never_visible_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let digest = sha256(b"right");
    for (length, wrong) in [(None, "wrong"), (Some(5), "wrong"), (Some(6), "right")] {
        let mut staged = store.stage(&digest, length).await.unwrap();
        staged
            .append(Bytes::from_static(wrong.as_bytes()))
            .await
            .unwrap();
        let refused = staged.publish().await.unwrap_err();
        match (length, refused) {
            (Some(6), PublishError::WrongLength { found: 5, .. }) => {}
            (_, PublishError::WrongDigest { found, .. }) => assert_eq!(*found, sha256(b"wrong")),
            (_, other) => panic!("{other}"),
        }
        assert!(!store.contains(&digest));
        assert!(names_in(&dir.path().join("staging")).is_empty());
    }
    let mut staged = store.stage(&digest, Some(5)).await.unwrap();
    assert!(matches!(
        staged.append(Bytes::from_static(b"right and more")).await,
        Err(Error::TooLong { length: 5, .. })
    ));
    drop(staged);
    assert!(matches!(
        store.put(&digest, Bytes::from_static(b"wrong")).await,
        Err(Error::WrongContent { .. })
    ));
}

#[tokio::test]
async fn a_restart_begins_at_the_front() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let digest = sha256(b"right");
    let mut staged = store.stage(&digest, Some(5)).await.unwrap();
    staged.append(Bytes::from_static(b"wron")).await.unwrap();
    staged.restart().await.unwrap();
    assert_eq!(staged.written(), 0);
    staged.append(Bytes::from_static(b"right")).await.unwrap();
    staged.publish().await.unwrap();
    assert_eq!(
        store.read(&digest, 5).await.unwrap(),
        Some(Bytes::from_static(b"right"))
    );
}

#[tokio::test]
async fn a_parked_file_is_taken_up_by_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let content = content(3_000_000);
    let digest = sha256(&content);
    {
        let store = open(dir.path());
        let mut staged = store.stage(&digest, Some(3_000_000)).await.unwrap();
        staged
            .append(Bytes::copy_from_slice(&content[..2_000_000]))
            .await
            .unwrap();
        staged.flush().await.unwrap();
        staged.park();
    }
    let store = open(dir.path());
    let mut staged = store.stage(&digest, Some(3_000_000)).await.unwrap();
    assert_eq!(staged.written(), 2_000_000);
    staged
        .append(Bytes::copy_from_slice(&content[2_000_000..]))
        .await
        .unwrap();
    assert_eq!(staged.publish().await.unwrap().length, 3_000_000);
}

#[tokio::test]
async fn garbage_in_a_partial_file_is_found_and_can_be_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let digest = sha256(b"right");
    let path = store.shared.layout.staged(&digest);
    fs::write(&path, b"\0\0\0").unwrap();
    let mut staged = store.stage(&digest, Some(5)).await.unwrap();
    assert_eq!(staged.written(), 3);
    staged.append(Bytes::from_static(b"ht")).await.unwrap();
    assert!(matches!(
        staged.verify().await,
        Err(PublishError::WrongDigest { .. })
    ));
    staged.restart().await.unwrap();
    staged.append(Bytes::from_static(b"right")).await.unwrap();
    staged.publish().await.unwrap();

    fs::write(&path, b"longer than it can be").unwrap();
    let staged = store.stage(&digest, Some(5)).await.unwrap();
    assert_eq!(staged.written(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_staged_file_has_one_writer() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let digest = sha256(b"right");
    let first = store.stage(&digest, None).await.unwrap();
    assert!(matches!(
        store.stage(&digest, None).await,
        Err(Error::Claimed { .. })
    ));
    drop(first);
    store.stage(&digest, None).await.unwrap();
}

#[tokio::test]
async fn without_room_nothing_is_staged() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.max_size = 1000;
    let store = try_open(&config).unwrap();
    let digest = sha256(b"right");
    assert!(matches!(
        store.stage(&digest, Some(1001)).await,
        Err(Error::NoRoom {
            why: NoRoom::MaxSize { max_size: 1000 },
            ..
        })
    ));
    drop(store);
    config.min_free = u64::MAX / 2;
    let store = try_open(&config).unwrap();
    assert!(matches!(
        store.stage(&digest, Some(10)).await,
        Err(Error::NoRoom {
            why: NoRoom::MinFree { .. },
            ..
        })
    ));
    assert!(names_in(&dir.path().join("staging")).is_empty());
}

#[tokio::test]
async fn damaged_small_content_is_moved_aside_and_absent() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let digest = sha256(b"right");
    store
        .put(&digest, Bytes::from_static(b"right"))
        .await
        .unwrap();
    fs::write(store.shared.layout.blob(&digest), b"wrong").unwrap();
    assert_eq!(store.read(&digest, 100).await.unwrap(), None);
    assert!(!store.contains(&digest));
    assert_eq!(names_in(&dir.path().join("quarantine")).len(), 1);
}

#[test]
fn a_directory_belongs_to_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    let refused = try_open(&config(dir.path())).unwrap_err().to_string();
    let pid = std::process::id();
    assert!(
        refused.contains(&format!("{}", dir.path().display())),
        "{refused}"
    );
    assert!(refused.contains(&format!("(process {pid})")), "{refused}");
    drop(first);
    open(dir.path());
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let refused = try_open(&config(&file.join("cache"))).unwrap_err();
    assert!(matches!(refused, OpenError::Unwritable { .. }));
    assert!(refused.to_string().contains("file/cache"), "{refused}");
}

#[tokio::test]
async fn facts_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (alpine, tag): (_, Tag) = (target("org/alpine"), "3.20".parse().unwrap());
    let digest = sha256(b"manifest");
    let media_type = MediaType::new("application/vnd.oci.image.index.v1+json").unwrap();
    let record = TagRecord {
        digest,
        media_type: media_type.clone(),
        length: 8,
        checked_at: Clock::System.now(),
    };
    {
        let store = open(dir.path());
        store.index().set_tag(&alpine, &tag, &record);
        store.index().set_tag(&target("org/b"), &tag, &record);
        store
            .index()
            .set_tag(&target("org/b"), &"2".parse().unwrap(), &record);
        store
            .index()
            .link(&alpine, &mut [digest, sha256(b"layer")].into_iter());
        store.index().set_media_type(&digest, &media_type);
        store.flush().await;
    }
    let store = open(dir.path());
    let index = store.index();
    assert_eq!(index.tag(&alpine, &tag), Some(record));
    assert_eq!(index.tags_of(&target("org/b")).len(), 2);
    assert_eq!(index.targets(), [alpine.clone(), target("org/b")]);
    assert!(index.is_linked(&alpine, &sha256(b"layer")));
    assert!(!index.is_linked(&target("org/b"), &sha256(b"layer")));
    assert_eq!(index.media_type(&digest), Some(media_type));
    index.remove_tag(&alpine, &tag);
    assert_eq!(index.tag(&alpine, &tag), None);
    assert!(index.tags_of(&alpine).is_empty());
}

#[test]
fn an_index_that_cannot_be_opened_is_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("index"), "no database").unwrap();
    let store = open(dir.path());
    assert_eq!(store.index().targets(), []);
    let aside = names_in(dir.path())
        .into_iter()
        .filter(|name| name.starts_with("index.bad-"));
    assert_eq!(aside.count(), 1);
}
