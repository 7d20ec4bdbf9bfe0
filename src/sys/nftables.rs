//! What the crate `nftnl` lacks: some expressions of rules, a message's bytes, and a rule's expressions in words.
//! libnftnl; linux/netfilter/nf_tables.h.

use std::ffi::{CStr, CString, c_char};
use std::ptr::NonNull;

use nftnl::expr::Expression;
use nftnl::nftnl_sys::{self as ffi, libc};
use nftnl::{MsgType, NlMsg, Rule, nft_nlmsg_maxsize};

/// An expression that `nftnl` does not have.
#[derive(Debug, Clone)]
pub struct Further {
    kind: &'static CStr,
    attributes: Vec<(u32, Value)>,
}

#[derive(Debug, Clone)]
enum Value {
    Half(u16),
    Word(u32),
    Long(u64),
    Text(CString),
}

impl Further {
    /// Sends the packet to a group of the log, with a prefix.
    #[must_use]
    pub fn log(group: u16, prefix: &CStr) -> Self {
        let attributes = vec![
            (ffi::NFTNL_EXPR_LOG_GROUP, Value::Half(group)),
            (ffi::NFTNL_EXPR_LOG_PREFIX, prefix.to_owned().into()),
        ];
        Self { kind: c"log", attributes }
    }

    /// Holds so many times a second.
    #[must_use]
    pub fn limit(a_second: u64, burst: u32) -> Self {
        let attributes = vec![
            (ffi::NFTNL_EXPR_LIMIT_RATE, Value::Long(a_second)),
            (ffi::NFTNL_EXPR_LIMIT_UNIT, Value::Long(1)),
            (ffi::NFTNL_EXPR_LIMIT_BURST, Value::Word(burst)),
            (ffi::NFTNL_EXPR_LIMIT_TYPE, Value::Word(0)),
            (ffi::NFTNL_EXPR_LIMIT_FLAGS, Value::Word(0)),
        ];
        Self { kind: c"limit", attributes }
    }

    /// Counts the packet in a named counter.
    #[must_use]
    pub fn counter(name: &CStr) -> Self {
        let attributes = vec![
            // NFT_OBJECT_COUNTER
            (ffi::NFTNL_EXPR_OBJREF_IMM_TYPE, Value::Word(1)),
            (ffi::NFTNL_EXPR_OBJREF_IMM_NAME, name.to_owned().into()),
        ];
        Self { kind: c"objref", attributes }
    }

    /// Holds where what is in the first register is in a named set.
    #[must_use]
    pub fn lookup(set: &CStr) -> Self {
        let attributes = vec![
            (ffi::NFTNL_EXPR_LOOKUP_SREG, Value::Word(1)),
            (ffi::NFTNL_EXPR_LOOKUP_SET, set.to_owned().into()),
            // None; the kernel tells them all the same.
            (ffi::NFTNL_EXPR_LOOKUP_FLAGS, Value::Word(0)),
        ];
        Self { kind: c"lookup", attributes }
    }

    /// Changes the destination to the address in the first register and the port in the second.
    #[must_use]
    pub fn destination(family: u32) -> Self {
        let attributes = vec![
            // NFT_NAT_DNAT
            (ffi::NFTNL_EXPR_NAT_TYPE, Value::Word(1)),
            (ffi::NFTNL_EXPR_NAT_FAMILY, Value::Word(family)),
            (ffi::NFTNL_EXPR_NAT_REG_ADDR_MIN, Value::Word(1)),
            (ffi::NFTNL_EXPR_NAT_REG_ADDR_MAX, Value::Word(1)),
            (ffi::NFTNL_EXPR_NAT_REG_PROTO_MIN, Value::Word(2)),
            (ffi::NFTNL_EXPR_NAT_REG_PROTO_MAX, Value::Word(2)),
            // NF_NAT_RANGE_MAP_IPS and NF_NAT_RANGE_PROTO_SPECIFIED, as the kernel tells them.
            (ffi::NFTNL_EXPR_NAT_FLAGS, Value::Word(3)),
        ];
        Self { kind: c"nat", attributes }
    }
}

impl From<CString> for Value {
    fn from(text: CString) -> Self {
        Self::Text(text)
    }
}

impl Expression for Further {
    fn to_expr(&self, _rule: &Rule<'_>) -> NonNull<ffi::nftnl_expr> {
        // SAFETY: the name is NUL-terminated and read during the call only.
        let expression = NonNull::new(unsafe { ffi::nftnl_expr_alloc(self.kind.as_ptr()) })
            .expect("there is memory for an expression of a kind that the library knows");
        for (attribute, value) in &self.attributes {
            let (expression, attribute) = (expression.as_ptr(), u16::try_from(*attribute).expect("attributes are few"));
            match value {
                // SAFETY: the expression is live and ours; the constructors above give each attribute the
                // type that its kind of expression has for it.
                Value::Half(value) => unsafe { ffi::nftnl_expr_set_u16(expression, attribute, *value) },
                // SAFETY: as above.
                Value::Word(value) => unsafe { ffi::nftnl_expr_set_u32(expression, attribute, *value) },
                // SAFETY: as above.
                Value::Long(value) => unsafe { ffi::nftnl_expr_set_u64(expression, attribute, *value) },
                Value::Text(value) => {
                    // SAFETY: as above; the text is NUL-terminated and copied.
                    let status = unsafe { ffi::nftnl_expr_set_str(expression, attribute, value.as_ptr()) };
                    assert_eq!(status, 0, "there is memory for a name");
                }
            }
        }
        expression
    }
}

/// The bytes of a message that makes something.
#[must_use]
pub fn message(of: &impl NlMsg) -> Vec<u8> {
    let longest = usize::try_from(nft_nlmsg_maxsize()).expect("a length in memory");
    // Words, so that it is aligned as a header must be.
    let mut buffer = vec![0u32; longest.div_ceil(4)];
    // SAFETY: the buffer has room for the largest message, which is what writing demands.
    unsafe { of.write(buffer.as_mut_ptr().cast(), 0, MsgType::Add) };
    let length = usize::try_from(buffer[0]).expect("a length in memory").min(longest);
    buffer.iter().flat_map(|word| word.to_ne_bytes()).take(length).collect()
}

/// The expressions of the rule in a message, in the library's words; none where it is no rule.
#[must_use]
pub fn expressions(message: &[u8]) -> Option<Vec<String>> {
    // With a word of zeros behind it, at which any name ends that has no end of its own.
    let words: Vec<u32> = message
        .chunks(4)
        .chain(std::iter::once(&[][..]))
        .map(|chunk| {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            u32::from_ne_bytes(word)
        })
        .collect();
    // A header is four words, of which the first is the length: the library trusts it.
    if words.len() < 6 || usize::try_from(words[0]).ok()? != message.len() {
        return None;
    }
    let rule = OwnedRule::new()?;
    // SAFETY: the header is aligned, whole, and its length that of the buffer behind it, as was looked at above;
    // the rule is live.
    let status = unsafe { ffi::nftnl_rule_nlmsg_parse(words.as_ptr().cast::<libc::nlmsghdr>(), rule.0.as_ptr()) };
    if status < 0 {
        return None;
    }
    // SAFETY: the rule is live and outlives the iterator, which is destroyed below.
    let iterator = NonNull::new(unsafe { ffi::nftnl_expr_iter_create(rule.0.as_ptr()) })?;
    let mut found = Vec::new();
    // SAFETY: the iterator is live; what it gives belongs to the rule, which is not changed.
    while let Some(expression) = NonNull::new(unsafe { ffi::nftnl_expr_iter_next(iterator.as_ptr()) }) {
        found.push(words_of(expression));
    }
    // SAFETY: made above, and not used any more.
    unsafe { ffi::nftnl_expr_iter_destroy(iterator.as_ptr()) };
    Some(found)
}

fn words_of(expression: NonNull<ffi::nftnl_expr>) -> String {
    let mut buffer: [c_char; 1024] = [0; 1024];
    let (start, length) = (buffer.as_mut_ptr(), buffer.len());
    // SAFETY: the expression is live; the buffer has the length that is given, and is NUL-terminated within it.
    unsafe { ffi::nftnl_expr_snprintf(start, length, expression.as_ptr(), ffi::NFTNL_OUTPUT_DEFAULT, 0) };
    let bytes: Vec<u8> = buffer.iter().take_while(|byte| **byte != 0).flat_map(|byte| byte.to_ne_bytes()).collect();
    // SAFETY: the expression is live; the name that is returned belongs to the library and is never freed.
    let name = unsafe { ffi::nftnl_expr_get_str(expression.as_ptr(), 0) };
    let name = if name.is_null() {
        String::new()
    } else {
        // SAFETY: NUL-terminated, as the library's names are.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    };
    format!("{name} {}", String::from_utf8_lossy(&bytes).trim())
}

/// A rule of the library, freed when dropped.
struct OwnedRule(NonNull<ffi::nftnl_rule>);

impl OwnedRule {
    fn new() -> Option<Self> {
        // SAFETY: takes nothing; null where there is no memory.
        NonNull::new(unsafe { ffi::nftnl_rule_alloc() }).map(Self)
    }
}

impl Drop for OwnedRule {
    fn drop(&mut self) {
        // SAFETY: made by nftnl_rule_alloc, and dropped once.
        unsafe { ffi::nftnl_rule_free(self.0.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_rule_has_no_expressions() {
        assert_eq!(expressions(&[]), None);
        assert_eq!(expressions(&[0xff; 64]), None);
        let mut long = vec![0; 32];
        long[0] = 64;
        assert_eq!(expressions(&long), None);
    }
}
