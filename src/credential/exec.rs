//! What a command prints (`exec`): a bare token, kubectl's ExecCredential, or JSON as OAuth2 and cloud tools write it.
//!
//! No shell. The command has nothing of lanyard's environment but `PATH` and `HOME`, nothing to read, and a process group
//! of its own, all of which ends with `timeout`. `output` understands what it printed.

mod output;

use std::{
    ffi::OsString,
    fmt, io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
};
use zeroize::Zeroizing;

use super::{Credential, FetchError, FetchErrorKind, Fetched, Material};
use crate::{config::Exec, oauth::scrub::Scrubber, secret::Secret};

/// Runs the command of a profile.
pub struct Printed {
    profile: Arc<str>,
    config: Exec,
}

/// A command that ended.
struct Ended {
    status: ExitStatus,
    stdout: Zeroizing<Vec<u8>>,
    stderr: Zeroizing<Vec<u8>>,
}

/// Why a command did not end by itself.
enum Cut {
    Late,
    TooLong,
    Broken(io::Error),
}

impl Printed {
    /// The command of `profile`.
    pub fn new(profile: &Arc<str>, config: &Exec) -> Self {
        Self { profile: Arc::clone(profile), config: config.clone() }
    }

    fn program(&self) -> &str {
        self.config.command.first().map_or("", String::as_str)
    }

    fn failed(&self, kind: FetchErrorKind, what: &str, hint: impl Into<String>) -> FetchError {
        let detail = format!("the command {} {what}", self.program());
        FetchError { kind, detail, hint: hint.into(), retry_after: None }
    }

    fn start(&self) -> Result<Child, FetchError> {
        let inherited = ["PATH", "HOME"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        let written = self.config.environment.iter().map(|(name, value)| (name.as_str(), OsString::from(value)));
        Command::new(self.program())
            .args(self.config.command.iter().skip(1))
            .env_clear()
            .env(KUBERNETES_EXEC_INFO.0, KUBERNETES_EXEC_INFO.1)
            .envs(inherited)
            .envs(written)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                let hint = match error.kind() {
                    io::ErrorKind::NotFound => {
                        "write its path, or put it into PATH; a script's interpreter has to be there too; there is no shell"
                    }
                    io::ErrorKind::PermissionDenied => "lanyard's user must be allowed to execute it: chmod +x",
                    _ => "try it by hand as lanyard's user",
                };
                self.failed(FetchErrorKind::Secret, &format!("cannot be started: {error}"), hint)
            })
    }

    async fn run(&self) -> Result<Ended, FetchError> {
        let mut child = self.start()?;
        // After the child, so that it is dropped before: until the child is waited for, the number is its group's.
        let group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
        let cut = match tokio::time::timeout(self.config.timeout, end(&mut child)).await {
            Ok(Ok(ended)) => {
                group.let_go();
                return Ok(ended);
            }
            Ok(Err(cut)) => cut,
            Err(_) => Cut::Late,
        };
        drop(group);
        // It was killed, and only has to be reaped; what the kernel holds on to is left to tokio.
        drop(tokio::time::timeout(REAPED_WITHIN, child.wait()).await);
        Err(match cut {
            Cut::Late => self.failed(
                FetchErrorKind::Timeout,
                &format!("did not end and close its output within {:?}, and was killed", self.config.timeout),
                format!("see what it waits for, or raise `timeout` of profile {}", self.profile),
            ),
            Cut::TooLong => self.failed(
                FetchErrorKind::InvalidResponse,
                &format!("printed more than {MAX_OUTPUT} bytes, and was killed"),
                "it has to print a credential and nothing else",
            ),
            Cut::Broken(error) => self.failed(
                FetchErrorKind::Secret,
                &format!("cannot be waited for: {error}"),
                "try it by hand as lanyard's user",
            ),
        })
    }

    /// The end of what it wrote to standard error, without what it wrote to standard output and what it was given.
    fn complaint(&self, ended: &Ended) -> String {
        let text = String::from_utf8_lossy(&ended.stderr);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        if lines.is_empty() {
            return String::new();
        }
        let mut secrets = output::secrets(&String::from_utf8_lossy(&ended.stdout));
        let given = self.config.environment.iter().map(|(_, value)| value.as_str());
        let arguments = self.config.command.iter().skip(1).filter(|argument| !argument.starts_with(['/', '.']));
        let values = arguments.map(|argument| argument.split_once('=').map_or(argument.as_str(), |(_, value)| value));
        let values = values.filter(|value| !value.starts_with('-'));
        secrets.extend(given.chain(values).filter(|value| value.len() >= MIN_VALUE).map(Secret::new));
        let plain = Scrubber::knowing(&secrets).clean(&lines.join("; "), usize::MAX);
        // The reason stands at the end, more often than not.
        let surplus = plain.chars().count().saturating_sub(MAX_SHOWN);
        if surplus == 0 {
            return format!(": {plain}");
        }
        format!(": …{}", plain.chars().skip(surplus + 1).collect::<String>())
    }
}

#[async_trait]
impl Credential for Printed {
    async fn fetch(&self) -> Result<Fetched, FetchError> {
        let ended = self.run().await?;
        if !ended.status.success() {
            let what = format!("failed ({}){}", ended.status, self.complaint(&ended));
            return Err(self.failed(FetchErrorKind::Secret, &what, TRY_IT));
        }
        let found = output::read(&ended.stdout, SystemTime::now()).map_err(|wrong| {
            let what = format!("printed {}{}", wrong.problem, self.complaint(&ended));
            self.failed(FetchErrorKind::InvalidResponse, &what, wrong.hint)
        })?;
        Ok(Fetched { material: Material::Token(found.token), lifetime: found.lifetime, warning: found.warning })
    }

    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

impl fmt::Debug for Printed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Printed")
            .field("profile", &self.profile)
            .field("program", &self.program())
            .finish_non_exhaustive()
    }
}

/// A process group, which is killed where nobody lets it go.
struct Group(Option<Pid>);

impl Group {
    /// Its command ended by itself.
    fn let_go(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // An error says that nobody is left in it.
            kill_process_group(group, Signal::KILL).ok();
        }
    }
}

/// Reads what a command prints to its end, and waits for it. It is not waited for before: who holds its output may still
/// be there, and has to be found by the group's number.
async fn end(child: &mut Child) -> Result<Ended, Cut> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (stdout, stderr) = tokio::try_join!(whole(stdout), tail(stderr))?;
    let status = child.wait().await.map_err(Cut::Broken)?;
    Ok(Ended { status, stdout, stderr })
}

async fn whole(pipe: Option<impl AsyncRead + Unpin>) -> Result<Zeroizing<Vec<u8>>, Cut> {
    // As large as it may become: what grows leaves copies of a secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_OUTPUT + 1));
    let Some(pipe) = pipe else { return Ok(bytes) };
    let limit = u64::try_from(MAX_OUTPUT + 1).unwrap_or(u64::MAX);
    pipe.take(limit).read_to_end(&mut bytes).await.map_err(Cut::Broken)?;
    if bytes.len() > MAX_OUTPUT { Err(Cut::TooLong) } else { Ok(bytes) }
}

/// The last bytes of a pipe, which is read to its end so that nobody waits for room in it.
async fn tail(pipe: Option<impl AsyncRead + Unpin>) -> Result<Zeroizing<Vec<u8>>, Cut> {
    let mut last = Zeroizing::new(Vec::with_capacity(MAX_STDERR + CHUNK));
    let Some(mut pipe) = pipe else { return Ok(last) };
    let mut chunk = Zeroizing::new(vec![0; CHUNK]);
    loop {
        let read = pipe.read(&mut chunk).await.map_err(Cut::Broken)?;
        let Some(more) = chunk.get(..read).filter(|more| !more.is_empty()) else { return Ok(last) };
        last.extend_from_slice(more);
        let surplus = last.len().saturating_sub(MAX_STDERR);
        last.drain(..surplus);
    }
}

/// What kubectl tells plugins of itself: which version of their answer it understands.
const KUBERNETES_EXEC_INFO: (&str, &str) = (
    "KUBERNETES_EXEC_INFO",
    r#"{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","spec":{"interactive":false}}"#,
);
/// The longest output that is read, bytes.
const MAX_OUTPUT: usize = 64 * 1024;
/// How much of standard error is kept, bytes: more than the longest output, so that what is to be taken out of it is there
/// as a whole.
const MAX_STDERR: usize = 2 * MAX_OUTPUT;
/// How much of it is read at once, bytes.
const CHUNK: usize = 8 * 1024;
/// How much of it is shown, characters.
const MAX_SHOWN: usize = 200;
/// The shortest argument or variable that may be a secret, bytes: shorter ones are words.
const MIN_VALUE: usize = 8;
const REAPED_WITHIN: Duration = Duration::from_secs(1);
const TRY_IT: &str = "try it by hand as lanyard's user: env -i PATH=\"$PATH\" HOME=\"$HOME\" COMMAND";

#[cfg(test)]
mod tests;
