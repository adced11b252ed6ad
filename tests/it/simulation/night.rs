//! A night: tags move at the upstream, weir restarts, and things happen to its directory meanwhile.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Life;
use crate::support::{Content, disk, eventually};

impl Life {
    pub(super) async fn night(&mut self) {
        self.move_tags();
        if self.random.bool() {
            let weir = self.weir.take().expect("weir runs");
            self.time.pass_during(weir.stop()).await;
            let damaged = self.meddle();
            self.weir = Some(self.house.start().await);
            self.scrub(damaged).await;
        }
        self.time.pass(Duration::from_secs(120)).await;
    }

    fn move_tags(&mut self) {
        let name = self.catalog.a_name(&mut self.random);
        match self.random.u8(..4) {
            0 => self.catalog.push(&self.upstream, &name, &mut self.random),
            1 => {
                self.upstream.untag(&name);
                let tagged = self.catalog.tags.get_mut(&name);
                tagged.expect("the tag was there").is_there = false;
                // weir forgets it when somebody asks.
                self.catalog.known.remove(&name);
            }
            _ => {}
        }
    }

    /// Does something to the directory; gives the files that are not right any more.
    fn meddle(&mut self) -> Vec<PathBuf> {
        let directory = self.house.cache_directory();
        let stored = disk::files(&directory.join("blobs"));
        let some = (!stored.is_empty()).then(|| stored[self.random.usize(..stored.len())].clone());
        match (self.random.u8(..6), some) {
            (0, _) => {
                fs::remove_dir_all(directory.join("index")).expect("the index is there");
                self.catalog.known.clear();
            }
            (1, Some(path)) => {
                fs::remove_file(&path).expect("a file can be removed");
                // It may have been a manifest.
                self.catalog.known.clear();
            }
            (2, Some(path)) => {
                let mut content = fs::read(&path).expect("a stored file can be read");
                let place = self.random.usize(..content.len());
                content[place] ^= 1;
                return self.damage(path, &content);
            }
            (3, Some(path)) => {
                let content = fs::read(&path).expect("a stored file can be read");
                let length = self.random.usize(..content.len());
                return self.damage(path, &content[..length]);
            }
            (4, _) => self.leave_a_partial(&directory),
            (5, _) => {
                let foreign = directory.join("blobs/sha256/README");
                fs::write(foreign, "not weir's").expect("a file can be written");
                fs::write(directory.join("staging/lost"), "nor this").expect("the same");
                fs::remove_file(directory.join("blobs/sha256/README")).expect("the same");
            }
            _ => {}
        }
        Vec::new()
    }

    fn damage(&mut self, path: PathBuf, content: &[u8]) -> Vec<PathBuf> {
        fs::write(&path, content).expect("a file can be damaged");
        self.catalog.known.clear();
        vec![path]
    }

    /// As a kill in the middle of a fill leaves it: a right beginning under its staged name.
    fn leave_a_partial(&mut self, directory: &Path) {
        let (_, blob): (_, Content) = self.catalog.a_blob(&mut self.random);
        let hex = blob.digest.hex();
        if !directory.join("blobs/sha256").join(&hex).exists() {
            let length = self.random.usize(..blob.length());
            let path = directory.join("staging").join(format!("sha256-{hex}"));
            fs::write(path, &blob.bytes[..length]).expect("a file can be written");
        }
    }

    /// What is wrong goes, without anybody asking for it.
    async fn scrub(&self, damaged: Vec<PathBuf>) {
        let gone = eventually("what is wrong is put aside", || {
            damaged.iter().all(|path| !path.exists())
        });
        self.time.pass_during(gone).await;
    }
}
