//! Users of pipes: who this process is, who owns a pipe, who is at its other end, and a pipe for one user alone.
//!
//! The one file with unsafe code: no maintained crate asks a pipe for its owner, and tokio takes an access list only as
//! a pointer. Every function here is safe to call with anything.

#![expect(unsafe_code, reason = "system calls that no maintained crate wraps")]

use std::ffi::c_void;
use std::io;
use std::os::windows::io::{AsRawHandle as _, BorrowedHandle, FromRawHandle as _, OwnedHandle};
use std::ptr;
use std::sync::OnceLock;

use tokio::net::windows::named_pipe::{NamedPipeServer, ServerOptions};
use windows_sys::Win32::Foundation::{ERROR_SUCCESS, HANDLE, LocalFree};
use windows_sys::Win32::Security::Authorization::{
    ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW, GetSecurityInfo,
    SDDL_REVISION_1, SE_KERNEL_OBJECT,
};
use windows_sys::Win32::Security::{
    GetTokenInformation, OWNER_SECURITY_INFORMATION, PSID, SECURITY_ATTRIBUTES, TOKEN_QUERY, TOKEN_USER,
    TokenUser,
};
use windows_sys::Win32::System::Pipes::{GetNamedPipeClientProcessId, GetNamedPipeServerProcessId};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

/// `SYSTEM` and the administrators, who may do anything on this machine, as root may elsewhere.
const ALMIGHTY: [&str; 2] = ["S-1-5-18", "S-1-5-32-544"];

/// A `TOKEN_USER` is a pointer and a number, and the longest SID has 68 bytes: 92 at most, aligned as the pointer.
const TOKEN_USER_WORDS: usize = 16;

/// Memory that the system has allocated and the caller frees.
struct Local(*mut c_void);

impl Drop for Local {
    fn drop(&mut self) {
        // SAFETY: the pointer comes from a call that says to free it so, and nobody else has it.
        unsafe { LocalFree(self.0) };
    }
}

/// The security identifier (SID) of this process's user, as text.
///
/// # Errors
///
/// What the system says.
pub(crate) fn current_user() -> io::Result<&'static str> {
    static USER: OnceLock<String> = OnceLock::new();
    if let Some(user) = USER.get() {
        return Ok(user);
    }
    let user = ask_for_user()?;
    Ok(USER.get_or_init(|| user))
}

/// Whether a user is this process's own, or one who may do anything.
pub(crate) fn is_trusted(sid: &str) -> bool {
    ALMIGHTY.contains(&sid) || current_user().is_ok_and(|own| own == sid)
}

fn ask_for_user() -> io::Result<String> {
    let mut token: HANDLE = ptr::null_mut();
    // SAFETY: the pseudo handle of the process is always valid; `token` has room for a handle.
    check(unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut token) })?;
    // SAFETY: the call has succeeded, so this is a handle, and nobody else closes it.
    let token = unsafe { OwnedHandle::from_raw_handle(token) };
    let mut answer = [0_u64; TOKEN_USER_WORDS];
    let mut length = u32::try_from(size_of_val(&answer)).unwrap_or(0);
    // SAFETY: `answer` has room for `length` bytes and is aligned for what is written.
    check(unsafe {
        let room = answer.as_mut_ptr().cast();
        GetTokenInformation(token.as_raw_handle(), TokenUser, room, length, &raw mut length)
    })?;
    // SAFETY: the call has filled `answer` with a TOKEN_USER, whose SID lies in `answer`, too.
    unsafe { text_of(answer.as_ptr().cast::<TOKEN_USER>().read().User.Sid) }
}

/// The SID of a pipe's owner: who made it, because only a user's own SID can be given to what he makes.
///
/// # Errors
///
/// What the system says.
pub(super) fn owner(pipe: BorrowedHandle<'_>) -> io::Result<String> {
    let (mut owner, mut descriptor): (PSID, _) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: the handle is open; the two places have room for pointers, the others are not asked for.
    let outcome = unsafe {
        GetSecurityInfo(
            pipe.as_raw_handle(),
            SE_KERNEL_OBJECT,
            OWNER_SECURITY_INFORMATION,
            &raw mut owner,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            &raw mut descriptor,
        )
    };
    if outcome != ERROR_SUCCESS {
        return Err(io::Error::from_raw_os_error(outcome.cast_signed()));
    }
    let _descriptor = Local(descriptor);
    if owner.is_null() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the pipe has no owner"));
    }
    // SAFETY: the SID lies in the descriptor, which is freed after this.
    unsafe { text_of(owner) }
}

/// The process at the client's end; `None` if it has gone.
pub(super) fn client_process(pipe: BorrowedHandle<'_>) -> Option<u32> {
    let mut pid = 0;
    // SAFETY: the handle is open, and `pid` has room for the answer.
    (unsafe { GetNamedPipeClientProcessId(pipe.as_raw_handle(), &raw mut pid) } != 0).then_some(pid)
}

/// The process at the server's end; `None` if it has gone.
pub(super) fn server_process(pipe: BorrowedHandle<'_>) -> Option<u32> {
    let mut pid = 0;
    // SAFETY: the handle is open, and `pid` has room for the answer.
    (unsafe { GetNamedPipeServerProcessId(pipe.as_raw_handle(), &raw mut pid) } != 0).then_some(pid)
}

/// An instance of a pipe that belongs to this user and lets nobody else in, and nobody from another machine.
///
/// # Errors
///
/// `PermissionDenied` if it shall be the first and is not, and what else the system says.
pub fn create(endpoint: &str, first: bool) -> io::Result<NamedPipeServer> {
    let user = current_user()?;
    let descriptor = descriptor(&format!("O:{user}D:P(A;;GA;;;{user})"))?;
    let attributes = SECURITY_ATTRIBUTES {
        nLength: u32::try_from(size_of::<SECURITY_ATTRIBUTES>()).unwrap_or(0),
        lpSecurityDescriptor: descriptor.0,
        bInheritHandle: 0,
    };
    let mut options = ServerOptions::new();
    options.first_pipe_instance(first).reject_remote_clients(true);
    // SAFETY: `attributes` is whole, and it and the descriptor in it live until the call is over.
    unsafe {
        options.create_with_security_attributes_raw(endpoint, (&raw const attributes).cast_mut().cast())
    }
}

/// A security descriptor from its text (SDDL).
fn descriptor(text: &str) -> io::Result<Local> {
    let text: Vec<u16> = text.encode_utf16().chain([0]).collect();
    let mut descriptor = ptr::null_mut();
    // SAFETY: the text ends with a NUL, `descriptor` has room for a pointer, and the length is not asked for.
    check(unsafe {
        ConvertStringSecurityDescriptorToSecurityDescriptorW(
            text.as_ptr(),
            SDDL_REVISION_1,
            &raw mut descriptor,
            ptr::null_mut(),
        )
    })?;
    Ok(Local(descriptor))
}

/// A SID as text.
///
/// # Safety
///
/// It must point to a SID.
unsafe fn text_of(sid: PSID) -> io::Result<String> {
    let mut text: *mut u16 = ptr::null_mut();
    // SAFETY: the caller's promise; `text` has room for a pointer.
    check(unsafe { ConvertSidToStringSidW(sid, &raw mut text) })?;
    let _text = Local(text.cast());
    // SAFETY: the call has made a text that ends with a NUL, and it is freed after this.
    let characters = unsafe {
        let mut length = 0;
        while *text.add(length) != 0 {
            length += 1;
        }
        std::slice::from_raw_parts(text, length)
    };
    Ok(String::from_utf16_lossy(characters))
}

fn check(outcome: i32) -> io::Result<()> {
    if outcome == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::windows::io::AsHandle as _;

    use windows_sys::Win32::Security::{
        ACCESS_ALLOWED_ACE, ACE_HEADER, ACL, DACL_SECURITY_INFORMATION, GetAce, GetSecurityDescriptorControl,
        SE_DACL_PROTECTED,
    };

    use super::*;

    /// The users whom the access list of a pipe admits, in words of the system: whether anything is inherited, and for
    /// each entry its type (0: allowed) and user.
    fn access_list(pipe: BorrowedHandle<'_>) -> (bool, Vec<(u8, String)>) {
        let (mut list, mut descriptor): (*mut ACL, _) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the handle is open; the two places have room for pointers, the others are not asked for.
        let outcome = unsafe {
            GetSecurityInfo(
                pipe.as_raw_handle(),
                SE_KERNEL_OBJECT,
                DACL_SECURITY_INFORMATION,
                ptr::null_mut(),
                ptr::null_mut(),
                &raw mut list,
                ptr::null_mut(),
                &raw mut descriptor,
            )
        };
        assert_eq!(outcome, ERROR_SUCCESS);
        let descriptor = Local(descriptor);
        let (mut control, mut revision) = (0, 0);
        // SAFETY: the descriptor is the system's, and the two places have room for the answers.
        check(unsafe { GetSecurityDescriptorControl(descriptor.0, &raw mut control, &raw mut revision) })
            .unwrap();
        assert!(!list.is_null(), "a pipe without an access list admits everybody");
        // SAFETY: the list lies in the descriptor, which is freed after this.
        let count = unsafe { (*list).AceCount };
        let entries = (0..count).map(|index| {
            let mut entry: *mut c_void = ptr::null_mut();
            // SAFETY: the list has such an entry, and `entry` has room for a pointer to it.
            check(unsafe { GetAce(list, index.into(), &raw mut entry) }).unwrap();
            // SAFETY: every entry begins with a header; those that allow or deny have the user's SID in one place.
            unsafe {
                let sid = &raw mut (*entry.cast::<ACCESS_ALLOWED_ACE>()).SidStart;
                ((*entry.cast::<ACE_HEADER>()).AceType, text_of(sid.cast()).unwrap())
            }
        });
        (control & SE_DACL_PROTECTED == 0, entries.collect())
    }

    #[tokio::test]
    async fn every_instance_of_a_pipe_is_this_users_and_admits_nobody_else() {
        let name = format!(r"\\.\pipe\ipc-runtime-tests\{}", std::process::id());
        let user = current_user().unwrap().to_owned();
        for (first, pipe) in [true, false].map(|first| (first, create(&name, first).unwrap())) {
            assert_eq!(owner(pipe.as_handle()).unwrap(), user, "{first}");
            assert_eq!(access_list(pipe.as_handle()), (false, vec![(0, user.clone())]), "{first}");
        }
    }
}
