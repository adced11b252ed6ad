//! What several commands print the same way: colours, problems of the configuration, failures.
//!
//! Printing never fails a command and never panics: whoever closed the pipe has read enough.

use std::fmt::{Display, Write as _};
use std::io::{IsTerminal, Write as _};

use crate::config::{LoadError, Place, Problem, Problems, Warning};

/// Colours where somebody sees them, none where `NO_COLOR` is set or a program reads.
#[derive(Clone, Copy)]
pub(super) struct Style {
    coloured: bool,
}

impl Style {
    pub(super) fn for_stdout() -> Self {
        Style::new(std::io::stdout().is_terminal())
    }

    pub(super) fn for_stderr() -> Self {
        Style::new(std::io::stderr().is_terminal())
    }

    fn new(is_terminal: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Style {
            coloured: is_terminal && !refused && !dumb,
        }
    }

    pub(super) fn is_coloured(self) -> bool {
        self.coloured
    }

    pub(super) fn good(self, text: impl Display) -> String {
        self.paint("32", text)
    }

    pub(super) fn bad(self, text: impl Display) -> String {
        self.paint("31", text)
    }

    pub(super) fn careful(self, text: impl Display) -> String {
        self.paint("33", text)
    }

    pub(super) fn strong(self, text: impl Display) -> String {
        self.paint("1", text)
    }

    pub(super) fn faint(self, text: impl Display) -> String {
        self.paint("2", text)
    }

    fn paint(self, code: &str, text: impl Display) -> String {
        if self.coloured {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_string()
        }
    }
}

pub(super) fn out(text: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text).and_then(|()| stdout.flush());
}

/// One line on stderr that says why the process ends.
pub(super) fn fail(error: &dyn Display) {
    let line = format!("{} {error}\n", Style::for_stderr().bad("weir:"));
    err(&line);
}

pub(super) fn err(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Why there is no configuration, for a person.
pub(super) fn load_error(error: &LoadError, style: Style) -> String {
    match error {
        LoadError::Invalid(problems) => problems_text(problems, style),
        LoadError::Unreadable { .. } | LoadError::TooLarge { .. } | LoadError::NotText { .. } => {
            format!("{} {error}\n", style.bad("weir:"))
        }
    }
}

fn problems_text(problems: &Problems, style: Style) -> String {
    let count = match problems.problems.len() {
        1 => "1 problem".to_owned(),
        count => format!("{count} problems"),
    };
    let source = match &problems.file {
        Some(file) => file.display().to_string(),
        None => "the environment".to_owned(),
    };
    let head = style.bad(format_args!("{count} in {source}"));
    let mut text = format!("{head}\n");
    for problem in &problems.problems {
        text.push('\n');
        text.push_str(&problem_text(problem, style));
    }
    text
}

fn problem_text(problem: &Problem, style: Style) -> String {
    entry(
        &problem.key,
        &problem.place,
        &problem.wrong,
        &problem.cure(),
        style,
    )
}

pub(super) fn warning_text(warning: &Warning, style: Style) -> String {
    let cure = warning.danger.cure();
    entry(&warning.key, &warning.place, &warning.danger, cure, style)
}

fn entry(key: &str, place: &Place, what: &dyn Display, cure: &str, style: Style) -> String {
    let place = match place {
        Place::Line(line) => format!("line {line}"),
        Place::Variable(name) => name.clone(),
        Place::Unwritten => String::new(),
    };
    let mut text = String::from("  ");
    match (key, place.as_str()) {
        ("", place) => text.push_str(&style.strong(place)),
        (key, "") => text.push_str(&style.strong(key)),
        (key, place) => {
            let _ = write!(text, "{}  {}", style.strong(key), style.faint(place));
        }
    }
    // Writing into a String cannot fail.
    let _ = write!(text, "\n    {what}\n    {} {cure}\n", style.good("→"));
    text
}
