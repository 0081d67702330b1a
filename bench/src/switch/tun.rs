//! TUN devices: network interfaces whose other end is a file of this process. Linux only, and only for root.
//!
//! The only unsafe code of the bench is here: one request to the kernel, with a structure of the size that it expects,
//! and the promise that a file stays open.
#![expect(unsafe_code, reason = "std has no TUN devices")]

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::Context;
use rustix::ioctl::{Opcode, Updater, ioctl};
use tokio::io::unix::AsyncFd;

/// `TUNSETIFF` of linux/if_tun.h.
const SET_INTERFACE: Opcode = 0x4004_54ca;
/// `IFF_TUN | IFF_NO_PI`: IP packets, and nothing before them.
const IP_PACKETS: i16 = 0x1001;
const NAME_BYTES: usize = 16;

/// `struct ifreq` of linux/if.h.
#[repr(C)]
struct Request {
    name: [u8; NAME_BYTES],
    flags: i16,
    rest: [u8; 22],
}

/// A device; it is gone when dropped.
pub(super) struct Tun {
    file: AsyncFd<File>,
    name: String,
}

impl Tun {
    /// A device that is down and has a name of the kernel's choice.
    pub(super) fn create() -> anyhow::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(0o4000) // O_NONBLOCK
            .open("/dev/net/tun")
            .context("/dev/net/tun")?;
        let mut request = Request {
            name: [0; NAME_BYTES],
            flags: IP_PACKETS,
            rest: [0; 22],
        };
        // SAFETY: this request reads and writes one `struct ifreq`, which `Request` is in size and layout.
        unsafe {
            let update = Updater::<SET_INTERFACE, Request>::new(&mut request);
            ioctl(&file, update).context("cannot create a network device")?;
        }
        // SAFETY: a `File` is the one owner of its descriptor, which stays the same and open until it is dropped.
        let file = unsafe { AsyncFd::register(file)? };
        let name = request.name.iter().take_while(|byte| **byte != 0);
        Ok(Self {
            name: name.map(|byte| char::from(*byte)).collect(),
            file,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Takes the next packet that the kernel sends; gives its length.
    pub(super) async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.file.readable().await?;
            if let Ok(result) = ready.try_io(|file| file.get_ref().read(buffer)) {
                return result;
            }
        }
    }

    /// Hands a packet to the kernel.
    pub(super) async fn send(&self, packet: &[u8]) -> io::Result<()> {
        loop {
            let mut ready = self.file.writable().await?;
            if let Ok(result) = ready.try_io(|file| file.get_ref().write(packet)) {
                return result.map(drop);
            }
        }
    }
}
