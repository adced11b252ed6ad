//! What weir writes into its log while a test holds the capture.
//!
//! It works by the thread's own subscriber, so the test's runtime has to have one thread: the
//! default of `#[tokio::test]`.

use std::io;
use std::sync::{Arc, Mutex, Once};

use tracing::Level;
use tracing::subscriber::DefaultGuard;

/// Ends with the value.
pub struct Logs {
    written: Arc<Mutex<Vec<u8>>>,
    _guard: DefaultGuard,
}

impl Logs {
    /// Everything down to debug.
    pub fn capture() -> Self {
        keep_callsites_awake();
        let written = Arc::new(Mutex::new(Vec::new()));
        let writer = Writer(written.clone());
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        Logs {
            written,
            _guard: tracing::subscriber::set_default(subscriber),
        }
    }

    pub fn text(&self) -> String {
        let written = self.written.lock().expect("nobody panics while writing");
        String::from_utf8_lossy(&written).into_owned()
    }

    pub fn contain(&self, words: &str) -> bool {
        self.text().contains(words)
    }
}

/// Whether anybody wants a line is remembered for the whole process. Another test that ends its
/// capture must not put a line to sleep for this one, so somebody always wants all of them.
fn keep_callsites_awake() {
    static SET: Once = Once::new();
    SET.call_once(|| {
        tracing::subscriber::set_global_default(tracing_subscriber::registry())
            .expect("nobody else sets one in this binary");
    });
}

#[derive(Clone)]
struct Writer(Arc<Mutex<Vec<u8>>>);

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = self.0.lock().expect("nobody panics while writing");
        written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
