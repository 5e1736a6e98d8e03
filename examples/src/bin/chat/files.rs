//! The files that people sent, in memory: the oldest make way for others.

use std::{
    collections::VecDeque,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ws_tokio::{Bytes, seed};

/// The most memory that files take.
const MAX_SIZE: usize = 64 << 20;

/// What a file counts beside its bytes.
const OVERHEAD: usize = 1024;

/// Nobody waits while this is locked.
#[derive(Default)]
pub(crate) struct Files(Mutex<Store>);

#[derive(Default)]
struct Store {
    /// The oldest first.
    files: VecDeque<(String, File)>,
    size: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) bytes: Bytes,
}

impl Files {
    /// Keeps a file. Its id cannot be guessed: whoever knows it may read the file.
    pub(crate) fn add(&self, file: File) -> io::Result<String> {
        let id = random()?;
        let mut store = self.lock();
        store.size += OVERHEAD + file.bytes.len();
        store.files.push_back((id.clone(), file));
        while store.size > MAX_SIZE
            && let Some((_, oldest)) = store.files.pop_front()
        {
            store.size -= OVERHEAD + oldest.bytes.len();
        }
        Ok(id)
    }

    pub(crate) fn get(&self, id: &str) -> Option<File> {
        self.lock().files.iter().find(|(other, _)| other == id).map(|(_, file)| file.clone())
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        self.lock().files.iter().map(|(id, _)| id.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 128 random bits, in hexadecimal.
pub(crate) fn random() -> io::Result<String> {
    Ok(seed()?[..16].iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_file_makes_way_at_the_limit() {
        let files = Files::default();
        let half = || File { name: String::new(), bytes: vec![0; MAX_SIZE / 2 - OVERHEAD].into() };
        let ids = [(); 2].map(|()| files.add(half()).unwrap());
        assert_eq!(files.ids(), ids);
        let small = files.add(File { name: "small".into(), bytes: Bytes::new() }).unwrap();
        assert_eq!(files.ids(), [ids[1].clone(), small.clone()]);
        assert_eq!(files.get(&small).unwrap().name, "small");
        assert!(files.get(&ids[0]).is_none());
    }
}
