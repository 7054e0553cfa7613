//! nftables over netlink: tables, sets, chains and rules of family inet, in one namespace.
//!
//! Pure Rust, no `nft` binary and no C library. It knows what nftables is and not what a fault is.
//! Facts about the kernel: `include/uapi/linux/netfilter/nf_tables.h`, `net/netfilter/nf_tables_api.c`.

mod batch;
mod expr;
pub mod interval;
mod probe;
mod set;
mod socket;
mod wire;

pub use batch::{Batch, Hook};
pub use expr::{
    AddressOf, Compare, Expr, Family, PortOf, is_loopback, load_address, load_port, of_family,
    of_protocol,
};
pub use probe::probe;
pub use set::{Element, KeyType, SetKind};

use libc::{
    NFT_MSG_GETRULE, NFT_MSG_GETSETELEM, NFT_MSG_GETTABLE, NFT_MSG_NEWRULE, NFT_MSG_NEWSETELEM,
    NFT_MSG_NEWTABLE,
};
use socket::{Failure, NftSocket};
use wire::{Attributes, Message};

use super::KernelError;

/// The type of a comment in user data: `NFTNL_UDATA_TABLE_COMMENT` of libnftnl. One byte of type and
/// one of length precede the text, a NUL follows it.
const USER_DATA_COMMENT: u8 = 0;

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its number, never given to another table of the namespace.
    pub handle: u64,
    /// How many chains, sets and other objects it holds, rules not counted.
    pub objects: u32,
    /// What was kept with it when it was created.
    pub owner: Option<String>,
}

/// A rule of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The chain it is in.
    pub chain: String,
    /// Packets counted by its first counter; `None` if it has none.
    pub packets: Option<u64>,
}

/// nftables of one namespace.
#[derive(Debug)]
pub struct Nft {
    socket: NftSocket,
}

impl Nft {
    /// Opens nftables of the calling thread's network namespace. It may be used from any thread.
    ///
    /// # Errors
    /// When the kernel has no netfilter.
    pub fn open() -> Result<Self, KernelError> {
        Ok(Self { socket: NftSocket::open()? })
    }

    /// Does all of a batch, or nothing. The effect begins with no packet between its parts.
    ///
    /// # Errors
    /// What the kernel refused, and why.
    pub fn commit(&mut self, batch: Batch) -> Result<(), KernelError> {
        let mut batch = batch.seal();
        self.socket.transact(&mut batch).map_err(|failure| {
            let (verb, object) = batch.change(failure.index);
            refused(verb, object, failure)
        })
    }

    /// The table of this name, if there is one.
    ///
    /// # Errors
    /// When the kernel has no nftables, or could not be asked.
    pub fn table(&mut self, name: &str) -> Result<Option<Table>, KernelError> {
        let mut found = None;
        let asked = self.socket.get(
            NFT_MSG_GETTABLE,
            |w| w.text(1, name), // NFTA_TABLE_NAME
            |message| found = read_table(message),
        );
        match asked {
            Ok(()) => Ok(found),
            Err(failure) if failure.source.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(failure) => Err(refused("look up", &format!("table inet {name}"), failure)),
        }
    }

    /// Every table of family inet.
    ///
    /// # Errors
    /// As [`Nft::table`].
    pub fn tables(&mut self) -> Result<Vec<Table>, KernelError> {
        self.socket
            .dump(NFT_MSG_GETTABLE, |_| {}, read_table)
            .map_err(|failure| refused("list", "the tables of nftables", failure))
    }

    /// The rules of a table, in the order of its chains. None if there is no such table.
    ///
    /// # Errors
    /// When the kernel could not be asked.
    pub fn rules(&mut self, table: &str) -> Result<Vec<Rule>, KernelError> {
        let dumped = self.socket.dump(
            NFT_MSG_GETRULE,
            |w| w.text(1, table), // NFTA_RULE_TABLE
            |message| read_rule(message, table),
        );
        match dumped {
            Ok(rules) => Ok(rules),
            Err(failure) if failure.source.raw_os_error() == Some(libc::ENOENT) => Ok(Vec::new()),
            Err(failure) => Err(refused("list", &format!("the rules of {table}"), failure)),
        }
    }

    /// How many elements of a set have not expired. None if there is no such set.
    ///
    /// # Errors
    /// When the kernel could not be asked.
    pub fn element_count(&mut self, table: &str, set: &str) -> Result<usize, KernelError> {
        let dumped = self.socket.dump(
            NFT_MSG_GETSETELEM,
            |w| {
                w.text(1, table); // NFTA_SET_ELEM_LIST_TABLE
                w.text(2, set); // NFTA_SET_ELEM_LIST_SET
            },
            |message| {
                let is_list = message.kind == batch::message_kind(NFT_MSG_NEWSETELEM);
                // NFTA_SET_ELEM_LIST_ELEMENTS
                is_list.then(|| message.attributes().inside(3).count())
            },
        );
        match dumped {
            Ok(counts) => Ok(counts.into_iter().sum()),
            Err(failure) if failure.source.raw_os_error() == Some(libc::ENOENT) => Ok(0),
            Err(failure) => Err(refused("list", &format!("set {set} of {table}"), failure)),
        }
    }

    /// Deletes a table and all there is in it. No error if it is not there any more.
    ///
    /// # Errors
    /// When the kernel refused.
    pub fn delete_table(&mut self, table: &Table) -> Result<(), KernelError> {
        let mut batch = Batch::default();
        batch.delete_table(&table.name, table.handle);
        match self.commit(batch) {
            Err(error) if error.is_gone() => Ok(()),
            result => result,
        }
    }
}

fn refused(verb: &'static str, object: &str, failure: Failure) -> KernelError {
    let Failure { text, source, .. } = failure;
    KernelError::Netlink { verb, object: object.to_owned(), message: text, source }
}

fn user_data(text: &str) -> Vec<u8> {
    let text = &text.as_bytes()[..text.len().min(250)];
    let len = u8::try_from(text.len() + 1).expect("251 is below 256");
    [&[USER_DATA_COMMENT, len], text, &[0]].concat()
}

fn read_user_data(data: &[u8]) -> Option<String> {
    let [USER_DATA_COMMENT, len, rest @ ..] = data else { return None };
    let text = rest.get(..usize::from(*len))?.strip_suffix(&[0])?;
    String::from_utf8(text.to_vec()).ok()
}

fn read_table(message: &Message<'_>) -> Option<Table> {
    if message.kind != batch::message_kind(NFT_MSG_NEWTABLE) {
        return None;
    }
    let attributes = message.attributes();
    Some(Table {
        name: attributes.text(1)?.to_owned(), // NFTA_TABLE_NAME
        handle: attributes.number64(4)?,      // NFTA_TABLE_HANDLE
        objects: attributes.number32(3)?,     // NFTA_TABLE_USE
        owner: attributes.get(6).and_then(read_user_data), // NFTA_TABLE_USERDATA
    })
}

fn read_rule(message: &Message<'_>, table: &str) -> Option<Rule> {
    let attributes = message.attributes();
    // NFTA_RULE_TABLE: kernels before 4.9 do not filter a dump.
    if message.kind != batch::message_kind(NFT_MSG_NEWRULE) || attributes.text(1)? != table {
        return None;
    }
    // NFTA_RULE_EXPRESSIONS: NFTA_EXPR_NAME, NFTA_EXPR_DATA
    let packets = attributes.inside(4).find_map(|(_, expression)| {
        let expression = Attributes(expression);
        let counter = expression.text(1)? == "counter";
        counter.then(|| expression.inside(2).number64(2))? // NFTA_COUNTER_PACKETS
    });
    Some(Rule {
        chain: attributes.text(2)?.to_owned(), // NFTA_RULE_CHAIN
        packets,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_survives() {
        for text in ["", "fault 0123456789abcdef", &"x".repeat(250)] {
            assert_eq!(read_user_data(&user_data(text)).as_deref(), Some(text));
        }
        for data in [&[][..], &[0], &[0, 9, 1, 0], &[1, 2, b'x', 0], &[0, 1, b'x']] {
            assert_eq!(read_user_data(data), None, "{data:?}");
        }
    }
}
