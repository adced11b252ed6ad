//! `docker-credential-<name>`: a program that knows credentials.
//!
//! It is started with `get`, reads the server's name and writes JSON. It gets little time and little
//! room; what it writes to stderr is kept for the message, never its answer.
//! Source: the protocol of docker/docker-credential-helpers.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::time::Instant;

use super::Secret;

const TIMEOUT: Duration = Duration::from_secs(10);
const OUTPUT_BYTES_MAX: u64 = 64 << 10;
const MESSAGE_CHARACTERS_MAX: usize = 200;
/// An answer is used this long, unless the registry refuses it before.
const KEPT_FOR: Duration = Duration::from_secs(10 * 60);
/// And a failure this long, so that a broken helper is not started by every request.
const FAILURE_KEPT_FOR: Duration = Duration::from_secs(5);
/// The user name that stands for an identity token.
const TOKEN_USER: &str = "<token>";
/// What a helper says when it has nothing; the one message of the protocol.
const NOT_FOUND: &str = "credentials not found";

/// What a helper said.
#[derive(Debug)]
pub(super) enum Answer {
    Found(Secret),
    NotFound,
}

/// The answers of all helpers, each asked once at a time.
#[derive(Debug, Default)]
pub(super) struct Helpers {
    slots: Mutex<HashMap<(String, String), Arc<Slot>>>,
}

#[derive(Debug, Default)]
struct Slot {
    known: tokio::sync::Mutex<Option<Known>>,
}

#[derive(Debug)]
struct Known {
    until: Instant,
    answer: Result<Option<Login>, String>,
}

#[derive(Debug, Clone)]
struct Login {
    username: String,
    secret: SecretString,
}

impl Helpers {
    /// Asks the helper `name` for its login at `server`, or remembers what it said.
    pub(super) async fn get(&self, name: &str, server: &str) -> Result<Answer, String> {
        let slot = self.slot(name, server);
        let mut known = slot.known.lock().await;
        let now = Instant::now();
        if let Some(known) = &*known
            && now < known.until
        {
            return answer(&known.answer);
        }
        let answered = run(name, server).await;
        let kept_for = match &answered {
            Ok(_) => KEPT_FOR,
            Err(_) => FAILURE_KEPT_FOR,
        };
        let result = answer(&answered);
        *known = Some(Known {
            until: now + kept_for,
            answer: answered,
        });
        result
    }

    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    fn slot(&self, name: &str, server: &str) -> Arc<Slot> {
        let key = (name.to_owned(), server.to_owned());
        Arc::clone(self.lock().entry(key).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn answer(known: &Result<Option<Login>, String>) -> Result<Answer, String> {
    match known {
        Ok(Some(login)) => Ok(Answer::Found(login.clone().into_secret())),
        Ok(None) => Ok(Answer::NotFound),
        Err(why) => Err(why.clone()),
    }
}

impl Login {
    fn into_secret(self) -> Secret {
        match self.username.as_str() {
            "" | TOKEN_USER => Secret::IdentityToken {
                username: None,
                token: self.secret,
            },
            _ => Secret::Password {
                username: self.username,
                password: self.secret,
            },
        }
    }
}

async fn run(name: &str, server: &str) -> Result<Option<Login>, String> {
    let program = program(name)?;
    tracing::debug!(program, server, "asking a credential helper");
    match tokio::time::timeout(TIMEOUT, exchange(&program, server)).await {
        Ok(result) => result,
        Err(_elapsed) => Err(format!(
            "{program} did not answer within {} s",
            TIMEOUT.as_secs()
        )),
    }
}

/// The name is part of a program's name: nothing in it may lead to another folder.
fn program(name: &str) -> Result<String, String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(fits) {
        return Err(format!(
            "{name:?} cannot be the name of a credential helper"
        ));
    }
    Ok(format!("docker-credential-{name}"))
}

async fn exchange(program: &str, server: &str) -> Result<Option<Login>, String> {
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{program} cannot be started: {error}"))?;
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let stdout = child.stdout.take().expect("stdout is piped");
    let stderr = child.stderr.take().expect("stderr is piped");
    let ask = async {
        // A helper that does not read its input has nothing against an answer.
        let _ = stdin.write_all(server.as_bytes()).await;
        drop(stdin);
    };
    let ((), answer, complaint) = tokio::join!(ask, limited(stdout), limited(stderr));
    let (answer, complaint) = (answer?, complaint?);
    let status = child
        .wait()
        .await
        .map_err(|error| format!("{program}: {error}"))?;
    if status.success() {
        return parse(&answer).map_err(|why| format!("{program}: {why}"));
    }
    // Helpers complain on stdout; only this one message is taken from there.
    let said = String::from_utf8_lossy(&answer);
    if said.trim().to_ascii_lowercase().starts_with(NOT_FOUND) {
        return Ok(None);
    }
    Err(format!(
        "{program} failed ({status}): {}",
        message(&complaint)
    ))
}

async fn limited(from: impl AsyncRead + Unpin) -> Result<Vec<u8>, String> {
    let mut output = Vec::new();
    from.take(OUTPUT_BYTES_MAX + 1)
        .read_to_end(&mut output)
        .await
        .map_err(|error| error.to_string())?;
    if output.len() as u64 > OUTPUT_BYTES_MAX {
        return Err(format!(
            "a credential helper wrote more than {OUTPUT_BYTES_MAX} bytes"
        ));
    }
    Ok(output)
}

fn message(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let mut lines = text.lines().map(str::trim);
    let first = lines
        .find(|line| !line.is_empty())
        .unwrap_or("it said nothing");
    let printable = first.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(MESSAGE_CHARACTERS_MAX).collect()
}

fn parse(output: &[u8]) -> Result<Option<Login>, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Written {
        #[serde(default)]
        username: String,
        #[serde(default)]
        secret: String,
    }
    // The text of a parse error could quote the secret.
    let written: Written =
        serde_json::from_slice(output).map_err(|_| "what it wrote is not its JSON".to_owned())?;
    if written.secret.is_empty() {
        return Ok(None);
    }
    Ok(Some(Login {
        username: written.username,
        secret: written.secret.into(),
    }))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn answers_become_logins() {
        let json = br#"{"ServerURL":"x","Username":"AWS","Secret":"s3cret"}"#;
        let login = parse(json).unwrap().unwrap().into_secret();
        assert!(matches!(
            &login,
            Secret::Password { username, password }
                if username == "AWS" && password.expose_secret() == "s3cret"
        ));
        let json = br#"{"Username":"<token>","Secret":"s3cret"}"#;
        let login = parse(json).unwrap().unwrap().into_secret();
        assert!(matches!(
            login,
            Secret::IdentityToken { username: None, .. }
        ));
        assert!(parse(br#"{"Username":"a","Secret":""}"#).unwrap().is_none());
        let error = parse(br#"{"Secret": s3cret"#).unwrap_err();
        assert!(!error.contains("s3cret"), "{error}");
    }

    #[test]
    fn a_name_cannot_leave_the_search_path() {
        assert_eq!(program("ecr-login").unwrap(), "docker-credential-ecr-login");
        for name in ["", "../x", "a/b", "a b", "a;b"] {
            assert!(program(name).is_err(), "{name}");
        }
    }

    fn script(folder: &tempfile::TempDir, text: &str) -> String {
        use std::os::unix::fs::PermissionsExt as _;
        let path = folder.path().join("helper");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn a_helper_is_asked_by_the_protocol() {
        let folder = tempfile::tempdir().unwrap();
        let json = r#"read server; [ "$1" = get ] && echo "{\"Username\":\"u\",\"Secret\":\"for-$server\"}""#;
        let login = exchange(&script(&folder, json), "r.example").await;
        let login = login.unwrap().unwrap();
        assert_eq!(login.secret.expose_secret(), "for-r.example");

        let nothing = "echo credentials not found in native keychain; exit 1";
        let login = exchange(&script(&folder, nothing), "r.example").await;
        assert!(login.unwrap().is_none());

        let broken = "echo s3cret; echo 'no session, run aws sso login' >&2; exit 2";
        let why = exchange(&script(&folder, broken), "r.example")
            .await
            .unwrap_err();
        assert!(why.contains("no session, run aws sso login"), "{why}");
        assert!(!why.contains("s3cret"), "{why}");

        let endless = "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done";
        let why = exchange(&script(&folder, endless), "r.example")
            .await
            .unwrap_err();
        assert!(why.contains("more than 65536 bytes"), "{why}");
    }

    #[tokio::test]
    async fn a_helper_that_is_not_there_is_named() {
        let why = Helpers::default()
            .get("weir-test-absent", "r.example")
            .await
            .unwrap_err();
        assert!(why.contains("docker-credential-weir-test-absent"), "{why}");
    }
}
