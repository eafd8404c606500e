//! What whoever supervises this process is told: systemd, and lists of processes.

use std::ffi::CString;

use sd_notify::NotifyState;

/// Where the environment names the socket of systemd.
pub(crate) const SOCKET: &str = "NOTIFY_SOCKET";

/// Tells systemd, where it asks to be told (`Type=notify`), that the service is up. The environment
/// names the socket; without it nothing happens.
pub(crate) fn tell_ready(status: &str) {
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)]) {
        tracing::warn!("systemd was not told that this process is ready: {error}");
    }
}

/// Gives the process the name that `ps`, `pgrep` and `ss` show. A replica of `up` is started as
/// `/proc/self/exe`, the very program that runs, and would be called `exe`.
pub(crate) fn name_process(name: &str) {
    let named = CString::new(name).map(|name| rustix::thread::set_name(&name));
    if !matches!(named, Ok(Ok(()))) {
        tracing::debug!("this process keeps the name that the system gave it");
    }
}
