//! A private repository and people before a weir that leaves the decision to the registry.

use base64::Engine as _;

use super::upstream::{Auth, Habit, Settings};
use super::{Client, HeldTime, House, Image, Upstream, Weir};

/// Who may pull `acme/secret`; everybody here has `-password` behind the name as password.
pub const ALICE: &str = "alice";
/// May as well.
pub const CAROL: &str = "carol";
/// Has an account, and may not.
pub const BOB: &str = "bob";
pub const SECRET: &str = "acme/secret";

/// A registry whose repository `acme/secret` is for its members, and the image there.
pub struct Members {
    pub time: HeldTime,
    pub upstream: Upstream,
    pub image: Image,
    pub weir: Weir,
}

impl Members {
    pub async fn with(habit: Habit) -> Self {
        Members::configured(habit, "").await
    }

    pub async fn configured(habit: Habit, config: &str) -> Self {
        let time = HeldTime::hold();
        let upstream = Upstream::with(|settings| {
            members(settings);
            habit(settings);
        })
        .await;
        let image = upstream.image(&format!("{SECRET}:1"));
        let weir = house(&upstream).config(config).clock(time.clock());
        let weir = weir.start().await;
        Members {
            time,
            upstream,
            image,
            weir,
        }
    }

    /// A client that brings this login.
    pub fn client(&self, name: &str) -> Client {
        self.client_with(name, &password(name))
    }

    pub fn client_with(&self, name: &str, password: &str) -> Client {
        let login = basic(name, password);
        self.weir.client().with("authorization", &login)
    }

    /// Everything that can be asked of the repository about what is cached.
    pub fn paths(&self) -> Vec<String> {
        let manifest = self.image.manifest.digest;
        let layer = self.image.layers[0].digest;
        [
            "manifests/1".to_owned(),
            format!("manifests/{manifest}"),
            format!("blobs/{layer}"),
            "tags/list".to_owned(),
            format!("referrers/{manifest}"),
        ]
        .map(|rest| format!("/v2/{SECRET}/{rest}"))
        .into()
    }

    /// Takes away the right of one of the members.
    pub fn withdraw(&self, name: &str) {
        self.upstream
            .set(|settings| settings.members.retain(|(_, member)| member != name));
    }
}

/// What it looks like when the members of the repository are to be told apart.
pub fn members(settings: &mut Settings) {
    settings.accounts = [ALICE, CAROL, BOB]
        .map(|name| (name.to_owned(), password(name)))
        .into();
    settings.members = [ALICE, CAROL]
        .map(|name| (SECRET.to_owned(), name.to_owned()))
        .into();
}

pub fn by_basic(settings: &mut Settings) {
    settings.auth = Auth::Basic;
}

pub fn by_bearer(settings: &mut Settings) {
    settings.auth = Auth::Bearer;
}

pub fn hiding(settings: &mut Settings) {
    settings.auth = Auth::Basic;
    settings.hides = true;
}

pub fn house(upstream: &Upstream) -> House {
    House::in_front_of(upstream).config("[registries.\"docker.io\"]\nauth = \"client\"")
}

pub fn password(name: &str) -> String {
    format!("{name}-password")
}

pub fn basic(name: &str, password: &str) -> String {
    let pair = format!("{name}:{password}");
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    format!("Basic {encoded}")
}
