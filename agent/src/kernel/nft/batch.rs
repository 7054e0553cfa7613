//! A batch: changes of nftables that take effect together or not at all.
//!
//! Built here, sent by [`super::Nft::commit`]. Message formats: `nf_tables.h` and, for the two
//! messages around them, `nfnetlink.h`.

use libc::{
    NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END, NFNL_SUBSYS_NFTABLES, NFPROTO_INET, NFT_MSG_DELCHAIN,
    NFT_MSG_DELRULE, NFT_MSG_DELSET, NFT_MSG_DELSETELEM, NFT_MSG_DELTABLE, NFT_MSG_NEWCHAIN,
    NFT_MSG_NEWRULE, NFT_MSG_NEWSET, NFT_MSG_NEWSETELEM, NFT_MSG_NEWTABLE, NFT_SET_INTERVAL,
    NFT_SET_TIMEOUT, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST,
};

use super::{
    expr::Expr,
    set::{Element, KeyType, SetKind},
    wire::{ATTRIBUTE_LEN_MAX, Writer},
};

/// Bytes of elements in one message, below [`ATTRIBUTE_LEN_MAX`] by more than one element takes.
const ELEMENTS_LEN_MAX: usize = ATTRIBUTE_LEN_MAX - 128;
/// Where a base chain sees packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// On their way into this namespace's sockets.
    Input,
    /// On their way out of them.
    Output,
}

/// Changes, in order. Empty at first.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    writer: Writer,
    /// Where each message begins, and what it does, for errors.
    messages: Vec<Change>,
}

#[derive(Debug, Clone)]
struct Change {
    start: usize,
    verb: &'static str,
    object: String,
}

impl Batch {
    /// Creates a table of family inet that must not exist yet. `owner` is kept with it and shown by
    /// `nft` as its comment; at most 250 bytes.
    pub fn new_table(&mut self, table: &str, owner: &str) {
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.change("create", format!("table inet {table}"), NFT_MSG_NEWTABLE, flags, |w| {
            w.text(1, table); // NFTA_TABLE_NAME
            w.bytes(6, &super::user_data(owner)); // NFTA_TABLE_USERDATA
        });
    }

    /// Deletes the table with this handle, and all there is in it.
    pub fn delete_table(&mut self, table: &str, handle: u64) {
        self.change("delete", format!("table inet {table}"), NFT_MSG_DELTABLE, 0, |w| {
            w.number64(4, handle); // NFTA_TABLE_HANDLE
        });
    }

    /// Creates a set. `id` must differ from those of the batch's other sets.
    pub fn new_set(&mut self, table: &str, set: &str, id: u32, key: KeyType, kind: SetKind) {
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.change("create", format!("set {set} of {table}"), NFT_MSG_NEWSET, flags, |w| {
            w.text(1, table); // NFTA_SET_TABLE
            w.text(2, set); // NFTA_SET_NAME
            w.number32(4, key.number()); // NFTA_SET_KEY_TYPE
            w.number32(5, u32::try_from(key.key_len()).unwrap_or(0)); // NFTA_SET_KEY_LEN
            w.number32(10, id); // NFTA_SET_ID
            match kind {
                SetKind::Keys(count) => {
                    let count = u32::try_from(count).unwrap_or(u32::MAX);
                    // NFTA_SET_DESC, NFTA_SET_DESC_SIZE
                    w.nested(9, |w| w.number32(1, count));
                }
                SetKind::Timeouts => w.number32(3, NFT_SET_TIMEOUT.cast_unsigned()),
                SetKind::Intervals => w.number32(3, NFT_SET_INTERVAL.cast_unsigned()),
            }
        });
    }

    /// Deletes a set that no rule looks into any more, and its elements. One of the same name can be
    /// created in the same batch: packets see the old or the new, never both.
    pub fn delete_set(&mut self, table: &str, set: &str) {
        self.change("delete", format!("set {set} of {table}"), NFT_MSG_DELSET, 0, |w| {
            w.text(1, table); // NFTA_SET_TABLE
            w.text(2, set); // NFTA_SET_NAME
        });
    }

    /// Adds elements to a set, in as many messages as it takes.
    pub fn add_elements(&mut self, table: &str, set: &str, elements: &[Element]) {
        self.elements("fill", NFT_MSG_NEWSETELEM, NLM_F_CREATE, table, set, elements);
    }

    /// Deletes elements of a set. The batch fails if one is not there, or its time is over.
    pub fn delete_elements(&mut self, table: &str, set: &str, elements: &[Element]) {
        self.elements("delete elements of", NFT_MSG_DELSETELEM, 0, table, set, elements);
    }

    fn elements(
        &mut self,
        verb: &'static str,
        kind: i32,
        flags: i32,
        table: &str,
        set: &str,
        mut elements: &[Element],
    ) {
        while !elements.is_empty() {
            let mut written = 0;
            self.change(verb, format!("set {set} of {table}"), kind, flags, |w| {
                w.text(1, table); // NFTA_SET_ELEM_LIST_TABLE
                w.text(2, set); // NFTA_SET_ELEM_LIST_SET
                // NFTA_SET_ELEM_LIST_ELEMENTS
                w.nested(3, |w| {
                    let start = w.bytes.len();
                    while written < elements.len() && w.bytes.len() - start < ELEMENTS_LEN_MAX {
                        elements[written].write(w);
                        written += 1;
                    }
                });
            });
            elements = &elements[written..];
        }
    }

    /// Creates a chain that others go to.
    pub fn new_chain(&mut self, table: &str, chain: &str) {
        self.chain(table, chain, |_| {});
    }

    /// Creates a chain that every packet comes to at `hook`, those of lower `priority` first, and
    /// that accepts what no rule decides.
    pub fn new_base_chain(&mut self, table: &str, chain: &str, hook: Hook, priority: i32) {
        let hook = match hook {
            Hook::Input => libc::NF_INET_LOCAL_IN,
            Hook::Output => libc::NF_INET_LOCAL_OUT,
        };
        self.chain(table, chain, |w| {
            // NFTA_CHAIN_HOOK: NFTA_HOOK_HOOKNUM, NFTA_HOOK_PRIORITY
            w.nested(4, |w| {
                w.number32(1, hook.cast_unsigned());
                w.number32(2, priority.cast_unsigned());
            });
            w.number32(5, libc::NF_ACCEPT.cast_unsigned()); // NFTA_CHAIN_POLICY
            w.text(7, "filter"); // NFTA_CHAIN_TYPE
        });
    }

    fn chain(&mut self, table: &str, chain: &str, base: impl FnOnce(&mut Writer)) {
        let object = format!("chain {chain} of {table}");
        self.change("create", object, NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL, |w| {
            w.text(1, table); // NFTA_CHAIN_TABLE
            w.text(3, chain); // NFTA_CHAIN_NAME
            base(w);
        });
    }

    /// Deletes a chain that is empty and that no rule goes to any more.
    pub fn delete_chain(&mut self, table: &str, chain: &str) {
        let object = format!("chain {chain} of {table}");
        self.change("delete", object, NFT_MSG_DELCHAIN, 0, |w| {
            w.text(1, table); // NFTA_CHAIN_TABLE
            w.text(3, chain); // NFTA_CHAIN_NAME
        });
    }

    /// Deletes all rules of a chain.
    pub fn flush_chain(&mut self, table: &str, chain: &str) {
        let object = format!("the rules in chain {chain} of {table}");
        self.change("delete", object, NFT_MSG_DELRULE, 0, |w| {
            w.text(1, table); // NFTA_RULE_TABLE
            w.text(2, chain); // NFTA_RULE_CHAIN
        });
    }

    /// Appends a rule to a chain.
    pub fn add_rule(&mut self, table: &str, chain: &str, expressions: &[Expr]) {
        let object = format!("a rule in chain {chain} of {table}");
        self.change("create", object, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, |w| {
            w.text(1, table); // NFTA_RULE_TABLE
            w.text(2, chain); // NFTA_RULE_CHAIN
            // NFTA_RULE_EXPRESSIONS
            w.nested(4, |w| expressions.iter().for_each(|expression| expression.write(w)));
        });
    }

    fn change(
        &mut self,
        verb: &'static str,
        object: String,
        kind: i32,
        flags: i32,
        attributes: impl FnOnce(&mut Writer),
    ) {
        if self.messages.is_empty() {
            self.boundary("begin", NFNL_MSG_BATCH_BEGIN);
        }
        let flags = flag_bits(NLM_F_REQUEST | flags);
        let start = self.writer.begin_message(message_kind(kind), flags, family(), 0);
        attributes(&mut self.writer);
        self.writer.end_message(start);
        self.messages.push(Change { start, verb, object });
    }

    fn boundary(&mut self, verb: &'static str, kind: i32) {
        let kind = u16::try_from(kind).expect("16 and 17 are below 65536");
        let subsystem = u16::try_from(NFNL_SUBSYS_NFTABLES).expect("10 is below 65536");
        let start = self.writer.begin_message(kind, flag_bits(NLM_F_REQUEST), 0, subsystem);
        self.writer.end_message(start);
        self.messages.push(Change { start, verb, object: "a transaction of nftables".into() });
    }

    /// Ends the batch, and asks for one answer when all of it has been done.
    pub(super) fn seal(mut self) -> SealedBatch {
        if let Some(last) = self.messages.last() {
            self.writer.add_flags(last.start, flag_bits(NLM_F_ACK));
            self.boundary("commit", NFNL_MSG_BATCH_END);
        }
        SealedBatch(self)
    }
}

/// A batch that is ready to be sent.
#[derive(Debug)]
pub(super) struct SealedBatch(Batch);

impl SealedBatch {
    /// Numbers the messages from `first` on, and returns the bytes to send.
    pub(super) fn numbered(&mut self, first: u32) -> &[u8] {
        for (change, sequence) in self.0.messages.iter().zip(first..) {
            self.0.writer.number(change.start, sequence);
        }
        &self.0.writer.bytes
    }

    /// How many messages there are.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.0.messages.len()).expect("so many messages fit no memory")
    }

    /// The index of the message whose answer is the last: the one before the end of the batch.
    pub(super) fn acknowledged(&self) -> u32 {
        self.len().saturating_sub(2)
    }

    /// What the message of an index does.
    pub(super) fn change(&self, index: u32) -> (&'static str, &str) {
        let change = usize::try_from(index).ok().and_then(|i| self.0.messages.get(i));
        change.map_or(("change", "nftables"), |change| (change.verb, &change.object))
    }
}

/// A message type of nftables as it goes into a header.
pub(super) fn message_kind(kind: i32) -> u16 {
    u16::try_from((NFNL_SUBSYS_NFTABLES << 8) | kind).expect("both are one byte")
}

/// The family that all tables here are of: IPv4 and IPv6 in one.
pub(super) fn family() -> u8 {
    u8::try_from(NFPROTO_INET).expect("1 is below 256")
}

pub(super) fn flag_bits(flags: i32) -> u16 {
    u16::try_from(flags).expect("flags of netlink have 16 bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::nft::{set::KEY_LEN_MAX, wire::Messages};

    fn all_elements(key_len: usize, count: u32) -> Vec<Element> {
        let keys = (0..count).map(|n| {
            let mut key = [0; KEY_LEN_MAX];
            key[..4].copy_from_slice(&n.to_be_bytes());
            key
        });
        keys.map(|key| Element::key(&key[..key_len]).expiring_after(5)).collect()
    }

    #[test]
    fn many_elements_are_split_and_none_is_lost_or_doubled() {
        for key_len in [4, 16] {
            let elements = all_elements(key_len, 20_000);
            let mut batch = Batch::default();
            batch.add_elements("t", "s", &elements);
            let mut sealed = batch.seal();
            let (len, acknowledged) = (sealed.len(), sealed.acknowledged());
            let bytes = sealed.numbered(100).to_vec();
            let messages: Vec<_> = Messages(&bytes).collect();
            assert_eq!(messages.len(), usize::try_from(len).expect("small"));
            let mut found = Vec::new();
            for (message, sequence) in messages.iter().zip(100..) {
                assert_eq!(message.sequence, sequence);
                let asks = message.flags & flag_bits(NLM_F_ACK) != 0;
                assert_eq!(asks, sequence == 100 + acknowledged);
                for (_, element) in message.attributes().inside(3) {
                    let element = crate::kernel::nft::wire::Attributes(element);
                    let key = element.inside(1).get(1).expect("a key");
                    assert_eq!(element.number64(4), Some(5));
                    found.push(Element::key(key).expiring_after(5));
                }
            }
            assert_eq!(found, elements);
        }
    }

    #[test]
    fn a_change_is_found_by_its_index() {
        let mut batch = Batch::default();
        batch.new_table("t", "owner");
        batch.new_chain("t", "c");
        let sealed = batch.seal();
        assert_eq!(sealed.change(1), ("create", "table inet t"));
        assert_eq!(sealed.change(2), ("create", "chain c of t"));
        assert_eq!(sealed.acknowledged(), 2);
    }
}
