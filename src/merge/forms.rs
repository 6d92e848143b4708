//! The structs of Parquet's metadata (parquet-format, `parquet.thrift`): which type each field has. The parser takes
//! a field to be of its type whatever the bytes say, and would go on at another byte than a walker that believes them.

use super::thrift::{BINARY, DOUBLE, I8, I16, I64, Kind, LIST, STRUCT};

/// The type of a field.
#[derive(Debug)]
pub(super) enum Form {
    Bool,
    Byte,
    Double,
    /// Of 16 to 64 bits, which are written alike; enumerations too.
    Int,
    List(&'static Self),
    Struct(Fields),
    Text,
}

/// The fields of a struct that are known, by their ids.
pub(super) type Fields = &'static [(i16, Form)];

impl Form {
    /// Whether the protocol writes it so.
    pub(super) fn is(&self, kind: Kind) -> bool {
        match self {
            Self::Bool => matches!(kind, 1 | 2),
            Self::Byte => kind == I8,
            Self::Double => kind == DOUBLE,
            Self::Int => (I16..=I64).contains(&kind),
            Self::List(_) => kind == LIST,
            Self::Struct(_) => kind == STRUCT,
            Self::Text => kind == BINARY,
        }
    }
}

use Form::{Bool, Byte, Double, Int, List, Struct, Text};

pub(super) const FILE_METADATA: Fields = &[
    (1, Int),
    (2, List(&Struct(SCHEMA_ELEMENT))),
    (3, Int),
    (4, List(&Struct(ROW_GROUP))),
    (5, List(&Struct(KEY_VALUE))),
    (6, Text),
    (7, List(&Struct(&[(1, Struct(&[])), (2, Struct(&[]))]))),
    (8, Struct(&[])),
    (9, Text),
];

pub(super) const SCHEMA_ELEMENT: Fields = &[
    (1, Int),
    (2, Int),
    (3, Int),
    (4, Text),
    (5, Int),
    (6, Int),
    (7, Int),
    (8, Int),
    (9, Int),
    (10, Struct(LOGICAL_TYPE)),
];

const LOGICAL_TYPE: Fields = &[
    (1, Struct(&[])),
    (2, Struct(&[])),
    (3, Struct(&[])),
    (4, Struct(&[])),
    (5, Struct(&[(1, Int), (2, Int)])),
    (6, Struct(&[])),
    (7, Struct(&[(1, Bool), (2, Struct(TIME_UNIT))])),
    (8, Struct(&[(1, Bool), (2, Struct(TIME_UNIT))])),
    (10, Struct(&[(1, Byte), (2, Bool)])),
    (11, Struct(&[])),
    (12, Struct(&[])),
    (13, Struct(&[])),
    (14, Struct(&[])),
    (15, Struct(&[])),
    (16, Struct(&[(1, Byte)])),
    (17, Struct(&[(1, Text)])),
    (18, Struct(&[(1, Text), (2, Int)])),
    (19, Struct(&[])),
];

const TIME_UNIT: Fields = &[(1, Struct(&[])), (2, Struct(&[])), (3, Struct(&[]))];

pub(super) const ROW_GROUP: Fields = &[
    (1, List(&Struct(COLUMN_CHUNK))),
    (2, Int),
    (3, Int),
    (4, List(&Struct(&[(1, Int), (2, Bool), (3, Bool)]))),
    (5, Int),
    (6, Int),
    (7, Int),
];

pub(super) const COLUMN_CHUNK: Fields = &[
    (1, Text),
    (2, Int),
    (3, Struct(COLUMN_METADATA)),
    (4, Int),
    (5, Int),
    (6, Int),
    (7, Int),
    (8, Struct(&[])),
    (9, Text),
];

const COLUMN_METADATA: Fields = &[
    (1, Int),
    (2, List(&Int)),
    (3, List(&Text)),
    (4, Int),
    (5, Int),
    (6, Int),
    (7, Int),
    (8, List(&Struct(KEY_VALUE))),
    (9, Int),
    (10, Int),
    (11, Int),
    (12, Struct(STATISTICS)),
    (13, List(&Struct(&[(1, Int), (2, Int), (3, Int)]))),
    (14, Int),
    (15, Int),
    (16, Struct(&[(1, Int), (2, List(&Int)), (3, List(&Int))])),
    (17, Struct(&[(1, Struct(BOUNDING_BOX)), (2, List(&Int))])),
];

const BOUNDING_BOX: Fields = &[
    (1, Double),
    (2, Double),
    (3, Double),
    (4, Double),
    (5, Double),
    (6, Double),
    (7, Double),
    (8, Double),
];

const STATISTICS: Fields = &[
    (1, Text),
    (2, Text),
    (3, Int),
    (4, Int),
    (5, Text),
    (6, Text),
    (7, Bool),
    (8, Bool),
    (9, Int),
];

const KEY_VALUE: Fields = &[(1, Text), (2, Text)];

pub(super) const PAGE_HEADER: Fields = &[
    (1, Int),
    (2, Int),
    (3, Int),
    (4, Int),
    (5, Struct(DATA_PAGE_HEADER)),
    (6, Struct(&[])),
    (7, Struct(DICTIONARY_PAGE_HEADER)),
    (8, Struct(DATA_PAGE_HEADER_V2)),
];

pub(super) const DATA_PAGE_HEADER: Fields = &[(1, Int), (2, Int), (3, Int), (4, Int), (5, Struct(STATISTICS))];

pub(super) const DICTIONARY_PAGE_HEADER: Fields = &[(1, Int), (2, Int), (3, Bool)];

pub(super) const DATA_PAGE_HEADER_V2: Fields = &[
    (1, Int),
    (2, Int),
    (3, Int),
    (4, Int),
    (5, Int),
    (6, Int),
    (7, Bool),
    (8, Struct(STATISTICS)),
];

pub(super) const OFFSET_INDEX: Fields = &[(1, List(&Struct(&[(1, Int), (2, Int), (3, Int)]))), (2, List(&Int))];

pub(super) const COLUMN_INDEX: Fields = &[
    (1, List(&Bool)),
    (2, List(&Text)),
    (3, List(&Text)),
    (4, Int),
    (5, List(&Int)),
    (6, List(&Int)),
    (7, List(&Int)),
    (8, List(&Int)),
];
