//! What the parts of an uplink share: the policy, what was learned under it, the rules, and what is counted.

use std::cell::{Ref, RefCell};
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;

use crate::job::DenialReason;
use crate::profile::{AllowList, Host, Name};

use super::bounds::Bounds;
use super::denials::{Denials, Flow};
use super::learned::Table;
use super::reach;
use super::resolver::Upstream;
use super::secrets::Secrets;
use super::{Doors, Refused};
use crate::network::secrets::Granted;

/// How long an address is good after the answer that named it has expired: programs connect a while after they
/// have asked, and some keep answers a little longer than they should.
pub(super) const GRACE: Duration = Duration::from_secs(120);

/// What the parts share.
pub(super) struct State {
    policy: RefCell<AllowList>,
    replaced: watch::Sender<()>,
    learned: RefCell<Table>,
    doors: RefCell<Box<dyn Doors>>,
    /// What was refused.
    pub(super) denials: Denials,
    /// What has been used of what is allowed.
    pub(super) bounds: Rc<Bounds>,
    /// Name servers.
    pub(super) upstream: Upstream,
    /// Secrets, where there are any.
    pub(super) secrets: Option<Secrets>,
}

/// Why a connection is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Admission {
    /// This name is listed, and had the address.
    Named(Name),
    /// The address is listed.
    Listed,
}

impl Admission {
    /// The name, where that is why.
    pub(super) fn name(&self) -> Option<&Name> {
        match self {
            Self::Named(name) => Some(name),
            Self::Listed => None,
        }
    }
}

impl State {
    pub(super) fn new(
        policy: AllowList,
        doors: Box<dyn Doors>,
        upstream: Upstream,
        secrets: Option<Granted>,
    ) -> Rc<Self> {
        Rc::new(Self {
            bounds: Rc::new(Bounds::new(&policy)),
            policy: RefCell::new(policy),
            replaced: watch::Sender::new(()),
            learned: RefCell::default(),
            doors: RefCell::new(doors),
            denials: Denials::default(),
            upstream,
            secrets: secrets.map(Secrets::new),
        })
    }

    /// The policy as it stands; not to be held across an await.
    pub(super) fn policy(&self) -> Ref<'_, AllowList> {
        self.policy.borrow()
    }

    /// Told each time that the policy is another.
    pub(super) fn replaced(&self) -> watch::Receiver<()> {
        self.replaced.subscribe()
    }

    /// Another policy from now on: rules, names, bounds, and connections that are open.
    pub(super) fn replace(&self, policy: AllowList) -> Result<(), String> {
        let kept = self.learned.borrow().under(&policy);
        self.doors.borrow_mut().install(&policy, &kept)?;
        self.learned.borrow_mut().forget_unlisted(&policy);
        self.bounds.replace(&policy);
        *self.policy.borrow_mut() = policy;
        self.replaced.send_replace(());
        Ok(())
    }

    /// Whether the rules are those of the policy.
    pub(super) fn holds(&self) -> Result<(), String> {
        self.doors.borrow_mut().holds()
    }

    /// Lets connections to an address of a listed name pass, for as long as its record is good and a grace.
    pub(super) fn learn(&self, name: &Name, address: IpAddr, lifetime: Duration) -> Result<(), DenialReason> {
        let lifetime = lifetime + GRACE;
        if self.learned.borrow().has(name, address, lifetime) {
            return Ok(());
        }
        self.learned.borrow_mut().make_room().map_err(|_| DenialReason::Bound)?;
        let ports = self.policy().ports_of(name);
        let learned = self.doors.borrow_mut().learn(address, &ports, lifetime);
        learned.map_err(|_| DenialReason::Unreachable)?;
        self.learned.borrow_mut().put(name, address, lifetime);
        Ok(())
    }

    /// The names that are known to have this address now.
    pub(super) fn names_of(&self, address: IpAddr) -> Vec<Name> {
        self.learned.borrow().names(address).cloned().collect()
    }

    /// Whether a name may resolve to this address.
    pub(super) fn may_have(&self, address: IpAddr) -> bool {
        !self.policy().is_refused(address) && !reach::is_own(address)
    }

    /// Whether a connection may be made to where a program wants one, and why.
    pub(super) fn judge(&self, to: SocketAddr) -> Result<Admission, (Option<Name>, DenialReason)> {
        let (address, port) = (to.ip(), to.port());
        let learned = self.learned.borrow();
        if !self.may_have(address) {
            return Err((learned.names(address).next().cloned(), DenialReason::Private));
        }
        let policy = self.policy();
        if policy.allows(address, port) {
            return Ok(Admission::Listed);
        }
        match learned.names(address).find(|name| policy.ports_of(name).contains(&port)) {
            Some(name) => Ok(Admission::Named(name.clone())),
            None => match learned.names(address).next() {
                Some(name) => Err((Some(name.clone()), DenialReason::Port)),
                None if is_in_a_network(&policy, address) => Err((None, DenialReason::Port)),
                None => Err((None, DenialReason::NotListed)),
            },
        }
    }

    /// Whether a connection that was let through once would be now. That its record has expired does not end it.
    pub(super) fn still_admits(&self, to: SocketAddr, by: &Admission) -> bool {
        let policy = self.policy();
        let is_listed = match by {
            Admission::Named(name) => policy.ports_of(name).contains(&to.port()),
            Admission::Listed => policy.allows(to.ip(), to.port()),
        };
        is_listed && !policy.is_refused(to.ip())
    }

    /// Counts what the rules refuse, for ever.
    pub(super) async fn count_refused(&self) {
        loop {
            match poll_fn(|context| self.doors.borrow_mut().poll_refused(context)).await {
                Ok(Refused { protocol, address, port, reason }) => {
                    let name = self.learned.borrow().names(address).next().map(Name::to_string);
                    self.denials.count(Flow { name, address: Some(address), port, protocol }, reason);
                }
                // A burst that the socket could not hold is lost to us (ENOBUFS, netlink(7)); refused it is.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

fn is_in_a_network(policy: &AllowList, address: IpAddr) -> bool {
    policy.allow.iter().any(|one| matches!(&one.host, Host::Cidr(net) if net.contains(&address)))
}
