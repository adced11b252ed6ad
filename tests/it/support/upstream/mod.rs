//! A fake registry with its token service and its CDN: real HTTP over loopback, in this process.
//!
//! Faults are queued, not mocked; everything that it saw can be asked for afterwards.

mod bursts;
mod cdn;
mod fault;
mod gate;
mod log;
mod origin;
mod send;
mod settings;
mod shelf;
mod site;
mod token;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use weir::oci::Digest;

pub use self::bursts::Bursts;
pub use self::fault::Fault;
pub use self::gate::Gate;
pub use self::log::{On, Seen};
pub use self::settings::{Auth, Habit, Settings};

use self::fault::Faults;
use self::log::{Asked, Log};
use self::send::Reply;
use self::shelf::Shelf;
use self::site::{Service, Site, Wire};
use self::token::Tokens;
use super::client::Client;
use super::content::{self, Content, Family, Image, Index, Manifest};

/// The service, and the realm of Basic challenges.
const REALM_SERVICE: &str = "registry.fake.test";
const LAYER_BYTES: usize = 20_000;

/// One fake registry. Goes with the test's runtime.
pub struct Upstream {
    state: Arc<State>,
    origin: Arc<Site>,
    token: Arc<Site>,
    cdn: Arc<Site>,
    seed: AtomicU64,
}

/// What the three sites share.
struct State {
    settings: Mutex<Settings>,
    shelf: Mutex<Shelf>,
    faults: Mutex<Faults>,
    tokens: Mutex<Tokens>,
    quota_used: Mutex<HashMap<String, u64>>,
    /// Signed addresses of older generations have expired.
    url_generation: AtomicU64,
    log: Log,
    token_realm: String,
    cdn_address: String,
}

/// What one site answers.
type Answer = fn(&State, &Asked) -> (On, Reply);

impl Upstream {
    /// A registry like Docker Hub, with nothing in it.
    pub async fn start() -> Self {
        Upstream::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        change(&mut settings);
        let origin = Site::reserve("127.0.0.1");
        let token = Site::reserve("127.0.0.1");
        let cdn = Site::reserve("127.0.0.2");
        let upstream = Upstream {
            state: Arc::new(State {
                settings: Mutex::new(settings),
                shelf: Mutex::default(),
                faults: Mutex::default(),
                tokens: Mutex::default(),
                quota_used: Mutex::default(),
                url_generation: AtomicU64::new(1),
                log: Log::default(),
                token_realm: format!("http://{}/token", token.address),
                cdn_address: cdn.address.to_string(),
            }),
            origin: Arc::new(origin),
            token: Arc::new(token),
            cdn: Arc::new(cdn),
            seed: AtomicU64::new(1),
        };
        upstream.come_back().await;
        upstream
    }

    /// What a configuration calls an endpoint.
    pub fn endpoint(&self) -> String {
        let prefix = self.state.settings().prefix;
        format!("http://{}{prefix}", self.origin.address)
    }

    pub fn token_realm(&self) -> &str {
        &self.state.token_realm
    }

    pub fn cdn_address(&self) -> &str {
        self.state.cdn_address()
    }

    /// A client that goes straight to the registry.
    pub fn client(&self) -> Client {
        Client::new(self.origin.address)
    }

    pub fn token_client(&self) -> Client {
        Client::new(self.token.address)
    }

    pub fn cdn_client(&self) -> Client {
        Client::new(self.cdn.address)
    }

    // What it holds. Images are called `repository:tag`.

    /// A small image of two layers.
    pub fn image(&self, name: &str) -> Image {
        self.image_of(name, &[LAYER_BYTES, LAYER_BYTES / 2])
    }

    /// An image with layers of these sizes.
    pub fn image_of(&self, name: &str, layer_bytes: &[usize]) -> Image {
        self.build(name, Family::Oci, "amd64", layer_bytes)
    }

    pub fn docker_image(&self, name: &str) -> Image {
        self.build(name, Family::Docker, "amd64", &[LAYER_BYTES])
    }

    /// A multi-platform image for amd64 and arm64.
    pub fn index(&self, name: &str) -> Index {
        self.build_index(name, Family::Oci)
    }

    /// The same as a Docker manifest list.
    pub fn docker_list(&self, name: &str) -> Index {
        self.build_index(name, Family::Docker)
    }

    /// A blob that no manifest names.
    pub fn blob(&self, repository: &str, length: usize) -> Content {
        let blob = self.noise(length);
        self.state.shelf().put_blob(repository, &blob);
        blob
    }

    pub fn put_blob(&self, repository: &str, blob: &Content) {
        self.state.shelf().put_blob(repository, blob);
    }

    /// Puts an image of another registry or repository under this name.
    pub fn push(&self, name: &str, image: &Image) {
        let (repository, _) = split(name);
        for blob in image.blobs() {
            self.state.shelf().put_blob(repository, blob);
        }
        self.push_manifest(name, &image.manifest);
    }

    pub fn push_manifest(&self, name: &str, manifest: &Manifest) {
        let (repository, tag) = split(name);
        let mut shelf = self.state.shelf();
        shelf.put_manifest(repository, manifest);
        shelf.tag(repository, tag, manifest.digest);
    }

    /// Puts an artifact that refers to `subject` into the repository.
    pub fn refer(&self, repository: &str, subject: &Manifest, artifact_type: &str) -> Manifest {
        let referrer = content::referrer(subject, artifact_type);
        self.state.shelf().put_manifest(repository, &referrer);
        referrer
    }

    pub fn untag(&self, name: &str) {
        let (repository, tag) = split(name);
        self.state.shelf().untag(repository, tag);
    }

    /// Forgets content everywhere.
    pub fn remove(&self, digest: &Digest) {
        self.state.shelf().remove(digest);
    }

    // What goes wrong.

    /// Queues a fault for the next request of this kind.
    pub fn fault(&self, on: On, fault: Fault) {
        self.state.faults().queue(on, fault);
    }

    /// Every request of this kind meets the fault, until [`Upstream::heal`].
    pub fn always(&self, on: On, fault: Fault) {
        self.state.faults().keep(on, fault);
    }

    pub fn heal(&self) {
        self.state.faults().clear();
    }

    /// All listeners close; connections are refused.
    pub async fn go_away(&self) {
        self.origin.close().await;
        self.token.close().await;
        self.cdn.close().await;
    }

    /// The listeners are there again, at the same addresses.
    pub async fn come_back(&self) {
        self.origin.open(self.service(origin::answer)).await;
        self.token.open(self.service(token::answer)).await;
        self.cdn.open(self.service(cdn::answer)).await;
    }

    pub async fn cdn_goes_away(&self) {
        self.cdn.close().await;
    }

    /// Every transfer from the CDN breaks; the next one may succeed.
    pub async fn cdn_restarts(&self) {
        self.cdn.close().await;
        self.cdn.open(self.service(cdn::answer)).await;
    }

    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut lock(&self.state.settings));
    }

    /// Every token that was granted is worth nothing now.
    pub fn revoke_tokens(&self) {
        self.state.tokens().revoke();
    }

    /// Every signed address that was given out is worth nothing now.
    pub fn expire_signed_addresses(&self) {
        self.state.url_generation.fetch_add(1, Ordering::SeqCst);
    }

    // What it saw.

    /// Requests of this kind. Those that were only challenged are not counted: they are
    /// [`On::Challenge`].
    pub fn count(&self, on: On) -> usize {
        self.requests(on).len()
    }

    pub fn requests(&self, on: On) -> Vec<Arc<Seen>> {
        let mut all = self.all_requests();
        all.retain(|seen| on == On::Any || seen.on == on);
        all
    }

    pub fn all_requests(&self) -> Vec<Arc<Seen>> {
        self.state.log.all()
    }

    /// Bytes of bodies that left.
    pub fn bytes_sent(&self, on: On) -> u64 {
        self.requests(on).iter().map(|seen| seen.sent()).sum()
    }

    /// Begins a new log.
    pub fn forget(&self) {
        self.state.log.clear();
    }

    fn noise(&self, length: usize) -> Content {
        Content::noise(self.seed.fetch_add(1, Ordering::SeqCst), length)
    }

    fn build(&self, name: &str, family: Family, architecture: &str, layers: &[usize]) -> Image {
        let layers = layers.iter().map(|length| self.noise(*length)).collect();
        let image = Image::of(family, architecture, layers);
        self.push(name, &image);
        image
    }

    fn build_index(&self, name: &str, family: Family) -> Index {
        let platforms = ["amd64", "arm64"];
        let built = platforms.map(|platform| {
            let image = self.build(name, family, platform, &[LAYER_BYTES]);
            (platform, image)
        });
        let index = Index::of(family, built.into());
        self.push_manifest(name, &index.manifest);
        index
    }

    fn service(&self, answer: Answer) -> Service {
        let state = self.state.clone();
        Arc::new(move |request, wire| Box::pin(respond(state.clone(), answer, request, wire)))
    }
}

/// Reads the request, lets the site answer, and spoils the answer as the next fault wants it.
async fn respond(
    state: Arc<State>,
    answer: Answer,
    request: Request<Incoming>,
    wire: Arc<Wire>,
) -> http::Response<send::Body> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes());
    let asked = Asked {
        method: head.method.clone(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        uri: head.uri.to_string(),
        headers: head.headers,
        body: String::from_utf8_lossy(&body.unwrap_or_default()).into_owned(),
    };
    let (on, reply) = answer(&state, &asked);
    let fault = state.faults().next(on);
    let seen = state.log.record(asked, on);
    let reply = send::spoil(reply, fault.as_ref()).await;
    seen.answered(reply.status.as_u16());
    send::send(reply, fault, &head.method, wire, seen)
}

impl State {
    fn settings(&self) -> Settings {
        lock(&self.settings).clone()
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        lock(&self.shelf)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.faults)
    }

    fn tokens(&self) -> MutexGuard<'_, Tokens> {
        lock(&self.tokens)
    }

    fn token_realm(&self) -> String {
        self.token_realm.clone()
    }

    fn cdn_address(&self) -> &str {
        &self.cdn_address
    }

    fn url_generation(&self) -> u64 {
        self.url_generation.load(Ordering::SeqCst)
    }

    /// Whether one more pull is allowed, and how many remain; takes one where `counts`.
    fn use_quota(&self, source: &str, limit: u64, counts: bool) -> (bool, u64) {
        let mut used = lock(&self.quota_used);
        let used = used.entry(source.to_owned()).or_default();
        if !counts {
            return (true, limit.saturating_sub(*used));
        }
        let allowed = *used < limit;
        *used = limit.min(*used + 1);
        (allowed, limit - *used)
    }
}

fn split(name: &str) -> (&str, &str) {
    name.rsplit_once(':').expect("a name is repository:tag")
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().expect("nobody panics while holding this")
}
