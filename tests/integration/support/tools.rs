//! Real programs that tests run: `scripts/clients.sh` sets them up.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, sync::OnceCell};

/// What the clients need, set up once a run: minutes on a machine that has nothing, a second where all is there.
pub async fn tools() -> &'static Path {
    static TOOLS: OnceCell<PathBuf> = OnceCell::const_new();
    TOOLS.get_or_init(set_up).await
}

async fn set_up() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("clients");
    let set_up = Command::new("bash")
        .arg(repository().join("scripts/clients.sh"))
        .arg(&folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .status();
    let set_up = tokio::time::timeout(Duration::from_secs(30 * 60), set_up).await.expect("it ends").unwrap();
    assert!(set_up.success(), "scripts/clients.sh failed");
    folder
}

/// Where the sources are.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
