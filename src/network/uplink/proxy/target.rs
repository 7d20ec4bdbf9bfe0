//! Whom a request is for.

use std::fmt;
use std::net::IpAddr;

use hyper::header::HOST;
use hyper::http::uri::Authority;
use hyper::{Method, Request, Uri};

use crate::profile::Name;

/// Whom a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::network::uplink) struct Target {
    pub(in crate::network::uplink) host: TargetHost,
    pub(in crate::network::uplink) port: u16,
}

/// A host, by name or by address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::network::uplink) enum TargetHost {
    Named(Name),
    Address(IpAddr),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            TargetHost::Named(name) => write!(f, "{name}:{}", self.port),
            TargetHost::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            TargetHost::Address(IpAddr::V4(address)) => write!(f, "{address}:{}", self.port),
        }
    }
}

impl Target {
    /// Whom this request is for, in every place where it says so.
    pub(super) fn of<B>(request: &Request<B>) -> Result<Self, &'static str> {
        let default = default_port(request.method(), request.uri())?;
        let authority = request.uri().authority().ok_or("the request names no host")?;
        let target = Self::named(authority, default).ok_or("the request's target is no host and port")?;
        let mut hosts = request.headers().get_all(HOST).iter();
        // Whoever serves several hosts may go by the field: it must not name another than was judged.
        let agrees = |host: &hyper::header::HeaderValue| {
            let authority = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
            let default = default.or(Some(target.port));
            authority.and_then(|authority| Self::named(&authority, default)).as_ref() == Some(&target)
        };
        match (hosts.next(), hosts.next()) {
            (None, _) => Ok(target),
            (Some(host), None) if agrees(host) => Ok(target),
            (Some(_), None) => Err("the Host field names another than the request's target"),
            (Some(_), Some(_)) => Err("the request has more than one Host field"),
        }
    }

    /// Whether a request that came over TLS is for this one, in every place where it says so.
    pub(in crate::network::uplink) fn is_that_of<B>(&self, request: &Request<B>) -> Result<(), &'static str> {
        let is_this = |authority: &Authority| Self::named(authority, Some(443)).as_ref() == Some(self);
        let is_agreed = match (request.uri().scheme_str(), request.uri().authority()) {
            _ if request.method() == Method::CONNECT => return Err("the host is no proxy"),
            (None, None) => true,
            (Some("https"), Some(authority)) => is_this(authority),
            _ => false,
        };
        if !is_agreed {
            return Err("the request's target is another host than TLS was asked for");
        }
        let mut hosts = request.headers().get_all(HOST).iter();
        let authority = |host: &hyper::header::HeaderValue| host.to_str().ok()?.parse::<Authority>().ok();
        match (hosts.next(), hosts.next()) {
            (None, _) => Err("the request has no Host field"),
            (Some(host), None) if authority(host).is_some_and(|host| is_this(&host)) => Ok(()),
            (Some(_), None) => Err("the Host field names another than TLS was asked for"),
            (Some(_), Some(_)) => Err("the request has more than one Host field"),
        }
    }

    fn named(authority: &Authority, default: Option<u16>) -> Option<Self> {
        let port = match (authority.port(), default) {
            (Some(_), _) => authority.port_u16(),
            // Something after the host that is no port.
            (None, _) if authority.as_str() != authority.host() => None,
            (None, default) => default,
        };
        let host = authority.host();
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match (bracketed, host.parse::<IpAddr>()) {
            (Some(inner), _) => TargetHost::Address(IpAddr::V6(inner.parse().ok()?)),
            (None, Ok(address)) => TargetHost::Address(address),
            (None, Err(_)) => TargetHost::Named(host.parse().ok()?),
        };
        let has_user = authority.as_str().contains('@');
        let port = port.filter(|port| *port != 0 && !has_user)?;
        Some(Self { host, port })
    }
}

fn default_port(method: &Method, uri: &Uri) -> Result<Option<u16>, &'static str> {
    match uri.scheme_str() {
        None if method == Method::CONNECT => Ok(None),
        Some("http") if method != Method::CONNECT => Ok(Some(80)),
        Some("https") => Err("https is reached by CONNECT"),
        _ => Err("a proxy takes CONNECT, and requests whose target is a whole http URL"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(method: &str, uri: &str, hosts: &[&str]) -> Result<String, &'static str> {
        let mut request = Request::builder().method(method).uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        Target::of(&request.body(()).unwrap()).map(|target| target.to_string())
    }

    #[test]
    fn a_target_is_read_wherever_it_stands() {
        for (method, uri, hosts, expected) in [
            ("CONNECT", "a.example:443", &["a.example:443"][..], "a.example:443"),
            ("CONNECT", "A.Example:443", &["a.example"], "a.example:443"),
            ("CONNECT", "[2001:db8::1]:443", &[], "[2001:db8::1]:443"),
            ("GET", "http://a.example/x", &["a.example"], "a.example:80"),
            ("GET", "http://a.example:8080/x", &["A.example:8080"], "a.example:8080"),
            ("POST", "http://198.35.26.96/", &["198.35.26.96:80"], "198.35.26.96:80"),
        ] {
            assert_eq!(target(method, uri, hosts).as_deref(), Ok(expected), "{method} {uri}");
        }
    }

    #[test]
    fn what_came_over_tls_is_for_the_host_that_tls_was_asked_for() {
        let is_fit = |method: &str, uri: &str, hosts: &[&str], port| {
            let mut request = Request::builder().method(method).uri(uri);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            let target = Target { host: TargetHost::Named("a.example".parse().unwrap()), port };
            target.is_that_of(&request.body(()).unwrap()).is_ok()
        };
        for (method, uri, hosts, port) in [
            ("GET", "/x?y", &["a.example"][..], 443),
            ("POST", "/", &["A.Example:443"], 443),
            ("GET", "/", &["a.example:8443"], 8443),
            ("GET", "https://a.example/", &["a.example"], 443),
            ("OPTIONS", "*", &["a.example"], 443),
        ] {
            assert!(is_fit(method, uri, hosts, port), "{method} {uri} {hosts:?}");
        }
        for (method, uri, hosts, port) in [
            ("GET", "/", &[][..], 443),
            ("GET", "/", &["b.example"], 443),
            ("GET", "/", &["a.example", "a.example"], 443),
            ("GET", "/", &["a.example", "b.example"], 443),
            ("GET", "/", &["a.example@b.example"], 443),
            ("GET", "/", &["a.example:8443"], 443),
            ("GET", "/", &["a.example"], 8443),
            ("GET", "/", &["a.example b.example"], 443),
            ("GET", "/", &[""], 443),
            ("GET", "https://b.example/", &["a.example"], 443),
            ("GET", "https://a.example/", &["b.example"], 443),
            ("GET", "http://a.example/", &["a.example"], 443),
            ("CONNECT", "a.example:443", &["a.example"], 443),
        ] {
            assert!(!is_fit(method, uri, hosts, port), "{method} {uri} {hosts:?}");
        }
    }

    #[test]
    fn what_is_said_in_two_ways_is_refused() {
        for (method, uri, hosts) in [
            ("CONNECT", "a.example:443", &["b.example:443"][..]),
            ("CONNECT", "a.example:443", &["a.example:80"]),
            ("CONNECT", "a.example:443", &["a.example:443", "a.example:443"]),
            ("CONNECT", "user@a.example:443", &[]),
            ("CONNECT", "a.example:0", &[]),
            ("GET", "http://a.example/", &["b.example"]),
            ("GET", "http://a.example/", &["a.example:8080"]),
            ("GET", "http://a.example/", &["a.example@b.example"]),
            ("GET", "http://a.example@b.example/", &[]),
            ("GET", "http://2130706433/", &[]),
            ("GET", "http://0x7f.1/", &[]),
            ("GET", "https://a.example/", &["a.example"]),
            ("GET", "ftp://a.example/", &["a.example"]),
            ("GET", "/", &["a.example"]),
        ] {
            assert!(target(method, uri, hosts).is_err(), "{method} {uri} {hosts:?}");
        }
    }
}
