//! The status page: what the API tells, for a person. It has no scripts, asks for nothing, and can
//! change nothing.

use std::fmt::Write as _;

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{Html, IntoResponse};
use serde_json::Value;

use super::{Admin, Desk, registries};
use crate::config::{duration_text, size_text};

const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";
const HEAD: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>weir</title>\
    <meta name=\"viewport\" content=\"width=device-width\"><style>\
    body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
    table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.25rem .75rem .25rem 0;\
    border-bottom:1px solid #8884;vertical-align:top}:root{color-scheme:light dark}</style>";

pub(super) async fn page(State(admin): State<Admin>) -> impl IntoResponse {
    let headers: [(HeaderName, HeaderValue); 3] = [
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(POLICY),
        ),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, Html(html(&admin.0)))
}

fn html(desk: &Desk) -> String {
    let stats = desk.store.stats();
    let up = desk.clock.now().since(desk.started_at);
    let up = std::time::Duration::from_secs(up.as_secs());
    let mut page = String::from(HEAD);
    let ready = match desk.health.is_ready() {
        true => "ready",
        false => "not ready",
    };
    row_head(&mut page, &format!("weir {}", env!("CARGO_PKG_VERSION")));
    row(&mut page, &["state", ready]);
    row(&mut page, &["up for", &duration_text(up)]);
    row(&mut page, &["cached", &size_text(rounded(stats.bytes))]);
    row(&mut page, &["of at most", &size_text(stats.max_size)]);
    row(&mut page, &["objects", &stats.objects.to_string()]);
    let free = stats
        .free
        .map_or("unknown".to_owned(), |free| size_text(rounded(free)));
    row(&mut page, &["free on the file system", &free]);
    page.push_str("</table>");
    for registry in registries::registries_of(desk) {
        registry_table(&mut page, &registry);
    }
    page.push_str("<p>More in <code>/metrics</code> and <code>/api/v1/</code>.</p></html>\n");
    page
}

fn registry_table(page: &mut String, registry: &Value) {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            other.to_string()
        }
    };
    let list = |name: &str| registry[name].as_array().cloned().unwrap_or_default();
    row_head(page, &text(&registry["name"]));
    for endpoint in list("endpoints") {
        let breaker = format!("breaker {}", text(&endpoint["breaker"]));
        row(page, &[&text(&endpoint["url"]), &breaker]);
    }
    for quota in list("quota") {
        let account = format!("quota of {}", text(&quota["account"]));
        let left = format!(
            "{} of {} left",
            text(&quota["remaining"]),
            text(&quota["limit"])
        );
        row(page, &[&account, &left]);
    }
    for credential in list("credentials") {
        let source = format!("credential by {}", text(&credential["source"]));
        row(page, &[&source, &text(&credential["username"])]);
    }
    page.push_str("</table>");
}

fn row_head(page: &mut String, title: &str) {
    // Writing into a String cannot fail.
    let _ = write!(page, "<h2>{}</h2><table>", escaped(title));
}

fn row(page: &mut String, cells: &[&str]) {
    page.push_str("<tr>");
    for cell in cells {
        let _ = write!(page, "<td>{}", escaped(cell));
    }
}

/// Whole mebibytes: a size for a person has no eleven digits.
fn rounded(bytes: u64) -> u64 {
    const MIB: u64 = 1 << 20;
    if bytes < MIB {
        bytes
    } else {
        bytes / MIB * MIB
    }
}

fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, c| {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn nothing_written_becomes_markup() {
        assert_eq!(
            escaped("<b a=\"1\" b='2'>&</b>"),
            "&lt;b a=&quot;1&quot; b=&#39;2&#39;&gt;&amp;&lt;/b&gt;"
        );
    }
}
