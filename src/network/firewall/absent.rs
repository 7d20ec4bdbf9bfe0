//! No rules: nothing is ever open.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::profile::AllowList;

use super::{FirewallError, Learned};

/// The rules of one network namespace, which this program was built without.
#[derive(Debug)]
pub struct Firewall(std::convert::Infallible);

impl Firewall {
    /// Would open a socket.
    ///
    /// # Errors
    /// [`FirewallError::NotBuilt`].
    pub fn open() -> Result<Self, FirewallError> {
        Err(FirewallError::NotBuilt)
    }

    /// Would go on with a socket.
    ///
    /// # Errors
    /// [`FirewallError::NotBuilt`].
    pub fn adopt(_socket: OwnedFd, _policy: &AllowList) -> Result<Self, FirewallError> {
        Err(FirewallError::NotBuilt)
    }

    /// Would give the socket away.
    #[must_use]
    pub fn into_socket(self) -> OwnedFd {
        match self.0 {}
    }

    /// Would make the first rules.
    ///
    /// # Errors
    /// None can be, since there is no such value.
    pub fn make(&mut self, _policy: &AllowList) -> Result<(), FirewallError> {
        match self.0 {}
    }

    /// Would go on with rules.
    ///
    /// # Errors
    /// None can be, since there is no such value.
    pub fn take_up(&mut self, _policy: &AllowList) -> Result<(), FirewallError> {
        match self.0 {}
    }

    /// Would make the rules.
    ///
    /// # Errors
    /// None can be, since there is no such value.
    pub fn install(&mut self, _policy: &AllowList, _learned: &[Learned]) -> Result<(), FirewallError> {
        match self.0 {}
    }

    /// Would add an address.
    ///
    /// # Errors
    /// None can be, since there is no such value.
    pub fn learn(&mut self, _: IpAddr, _ports: &BTreeSet<u16>, _lifetime: Duration) -> Result<(), FirewallError> {
        match self.0 {}
    }

    /// Would read the addresses.
    ///
    /// # Errors
    /// None can be, since there is no such value.
    pub fn learned(&mut self) -> Result<Vec<Learned>, FirewallError> {
        match self.0 {}
    }

    /// Would compare.
    ///
    /// # Errors
    /// None can be, since there is no such value.
    pub fn holds(&mut self) -> Result<(), FirewallError> {
        match self.0 {}
    }
}
