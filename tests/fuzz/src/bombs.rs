//! Files that claim, or unfold to, far more than they are. Each has a name, and is no larger than a few hundred KiB.

use std::io::Write;
use std::sync::Arc;

use firnline::parquet::basic::{
    BrotliLevel, Compression, GzipLevel, LogicalType, Repetition, Type as PhysicalType, ZstdLevel,
};
use firnline::parquet::file::metadata::{
    ColumnChunkMetaData, FileMetaData, ParquetMetaDataBuilder, ParquetMetaDataWriter, RowGroupMetaData,
};
use firnline::parquet::schema::types::{ColumnDescPtr, SchemaDescriptor, Type};
use flate2::write::GzEncoder;

/// As `Encoding` of parquet-format numbers them.
const PLAIN: i32 = 0;
const RLE: i32 = 3;
const DELTA_BINARY_PACKED: i32 = 5;
const DELTA_LENGTH_BYTE_ARRAY: i32 = 6;
const DELTA_BYTE_ARRAY: i32 = 7;
const RLE_DICTIONARY: i32 = 8;

/// A size that nobody has.
const HUGE: i32 = i32::MAX;

/// All of them.
pub fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    let mut bombs = footers();
    bombs.extend(counts());
    bombs.extend(repetitions());
    bombs.extend(codecs());
    bombs
}

/// Footers whose lists and names come to more than they are.
fn footers() -> Vec<(&'static str, Vec<u8>)> {
    let empty = |count: usize| vec![0; count];
    // 1: a version; 2: a list of schema elements.
    let mut named = vec![0x15, 2, 0x19, 0xfc];
    named.extend(varint(10_002));
    // 4: the name; 5: the number of children; 3: required.
    named.extend([0x48, 1, b's', 0x15, 2, 0, 0x35, 0, 0x18]);
    named.extend(varint(100_000));
    named.extend(vec![b'n'; 100_000]);
    named.push(0x15);
    named.extend(zigzag(10_000));
    named.push(0);
    for _ in 0..10_000 {
        // 1: its type is INT32; 3: required; 4: the name.
        named.extend([0x15, 2, 0x25, 0, 0x18, 1, b'x', 0]);
    }
    // 3: no rows; 4: no row groups.
    named.extend([0x16, 0, 0x19, 0x0c]);
    let listed = |field: u8, count: usize| {
        let mut list = vec![(field << 4) | 9, 0xfc];
        list.extend(varint(count as u64));
        list.extend(empty(count));
        list
    };
    let mut deep = vec![0x29, 0xfc];
    deep.extend(varint(15_000));
    deep.extend([0x48, 1, b'g', 0x15, 2, 0].repeat(15_000));
    let claimed = |field: u8| [vec![(field << 4) | 9, 0xfc], varint(u64::from(u32::MAX) >> 1)].concat();
    let bytes = [
        ("names of groups in the paths of all their leaves", named),
        ("key-value pairs of a byte each", listed(5, 4_000_000)),
        ("orders of columns of a byte each", listed(7, 400_000)),
        ("row groups of a byte each", listed(4, 400_000)),
        ("schema elements of a byte each", listed(2, 400_000)),
        ("a schema nested 15,000 deep", deep),
        ("a list of 2^31 schema elements", claimed(2)),
        ("a list of 2^31 row groups", claimed(4)),
        ("a list of 2^31 key-value pairs", claimed(5)),
        ("structs nested without end", vec![0x1c; 200_000]),
        ("lists nested without end", vec![0x19; 200_000]),
        ("lists of booleans, to the parser of no bytes", booleans()),
        ("a text longer than everything", [vec![0x68], varint(u64::MAX)].concat()),
    ];
    let whole = |thrift: Vec<u8>| {
        let length = u32::try_from(thrift.len() + 1).expect("some hundred KiB");
        [b"PAR1".as_slice(), &thrift, &[0], &length.to_le_bytes(), b"PAR1"].concat()
    };
    bytes.into_iter().map(|(name, thrift)| (name, whole(thrift))).collect()
}

/// Found by the fuzzer: lists of lists of booleans, whose elements the parser takes to be of no bytes at all.
fn booleans() -> Vec<u8> {
    let mut lists = vec![0xfa, 0xff, 0xff, 0x3f].repeat(8);
    lists.insert(0, 0xda);
    lists.extend([0xf1, 0xff, 0xff, 0xff, 0x07]);
    lists
}

/// Counts and sizes that decoders allocate by.
fn counts() -> Vec<(&'static str, Vec<u8>)> {
    let text = || leaf(PhysicalType::BYTE_ARRAY, 0, None);
    let long = || leaf(PhysicalType::INT64, 0, None);
    let delta = |count: u64| [varint(128), varint(4), varint(count), zigzag(0)].concat();
    let page = |encoding, body: &[u8]| data_page(10, encoding, body);
    let mut prefixes = delta(10);
    prefixes.extend([0, 0, 0, 0, 0]);
    prefixes.extend(delta(1 << 40));
    let blocks = [varint(1 << 62), varint(1), varint(10), zigzag(0), vec![0, 0]].concat();
    let chunk = |column, pages: &[u8]| file(column, Compression::UNCOMPRESSED, 10, 10, false, pages);
    let with_dictionary = |column, count| {
        let pages = [
            dictionary_page(count, &[7; 16]),
            data_page(10, RLE_DICTIONARY, &[1, 20, 0]),
        ]
        .concat();
        file(column, Compression::UNCOMPRESSED, 10, 10, true, &pages)
    };
    let sized = |uncompressed, codec| {
        let body = [1; 100];
        let page = header(0, uncompressed, body.len(), |header| data_header(header, 10, PLAIN));
        file(text(), codec, 10, 10, false, &[page, body.to_vec()].concat())
    };
    vec![
        (
            "2^40 lengths",
            chunk(text(), &page(DELTA_LENGTH_BYTE_ARRAY, &delta(1 << 40))),
        ),
        (
            "2^62 lengths",
            chunk(text(), &page(DELTA_LENGTH_BYTE_ARRAY, &delta(1 << 62))),
        ),
        (
            "2^34 lengths",
            chunk(text(), &page(DELTA_LENGTH_BYTE_ARRAY, &delta(1 << 34))),
        ),
        ("2^40 prefixes", chunk(text(), &page(DELTA_BYTE_ARRAY, &delta(1 << 40)))),
        ("2^40 suffixes", chunk(text(), &page(DELTA_BYTE_ARRAY, &prefixes))),
        (
            "blocks of 2^62 lengths",
            chunk(text(), &page(DELTA_LENGTH_BYTE_ARRAY, &blocks)),
        ),
        (
            "2^40 numbers",
            chunk(long(), &page(DELTA_BINARY_PACKED, &delta(1 << 40))),
        ),
        (
            "blocks of 2^62 numbers",
            chunk(long(), &page(DELTA_BINARY_PACKED, &blocks)),
        ),
        ("a dictionary of 2^31 texts", with_dictionary(text(), HUGE)),
        ("a dictionary of 2^31 numbers", with_dictionary(long(), HUGE)),
        ("a page of 2^31 bytes", sized(HUGE, Compression::UNCOMPRESSED)),
        ("a snappy page of 2^31 bytes", sized(HUGE, Compression::SNAPPY)),
        (
            "a zstd page of 2^31 bytes",
            sized(HUGE, Compression::ZSTD(ZstdLevel::default())),
        ),
        ("a raw LZ4 page of 2^31 bytes", sized(HUGE, Compression::LZ4_RAW)),
        ("a page of less than nothing", sized(-1, Compression::SNAPPY)),
        ("a text longer than its page", chunk(text(), &page(PLAIN, &[0xff; 64]))),
    ]
}

/// Values that are repeated, wholly or in part.
fn repetitions() -> Vec<(&'static str, Vec<u8>)> {
    let text = || leaf(PhysicalType::BYTE_ARRAY, 0, None);
    let plain = Compression::UNCOMPRESSED;
    let rows = |count: i64, pages: &[u8]| file(text(), plain, count, count, false, pages);
    let wide = vec![b'w'; 300_000];
    // Many short values, so that the dictionary tells of short rows, and then a wide one.
    let dictionary = [vec![0; 4 * 3_000], framed(&wide)].concat();
    // Its index in 12 bits, over and over.
    let index = |count: u64| [vec![12], varint(count << 1), 3_000_u16.to_le_bytes().to_vec()].concat();
    let repeated = [
        dictionary_page(3_001, &dictionary),
        data_page(20_000, RLE_DICTIONARY, &index(20_000)),
    ];
    // A head, a first number, and a block of one part: each number is the one before and a step.
    let lengths = |first: i64, step: i64, count: u64| {
        let head = [varint(1 << 20), varint(1), varint(count), zigzag(first)].concat();
        [head, zigzag(step), vec![0]].concat()
    };
    let prefixed = [lengths(0, 300_000, 2), lengths(300_000, -300_000, 2), wide].concat();
    // Each value takes all of the one before and one byte more.
    let growing = [lengths(0, 1, 100_000), lengths(1, 0, 100_000), vec![b'g'; 100_000]].concat();
    // All of the items of one row, none of which is null.
    let items = |count: u64| [levels(&[(0, 1), (1, count - 1)]), levels(&[(1, count)]), index(count)].concat();
    let listed = [
        dictionary_page(3_001, &dictionary),
        data_page(100_000, RLE_DICTIONARY, &items(100_000)),
    ];
    let list_of_texts = leaf(PhysicalType::BYTE_ARRAY, 0, Some(Repetition::REQUIRED));
    let fixed = |length| leaf(PhysicalType::FIXED_LEN_BYTE_ARRAY, length, Some(Repetition::OPTIONAL));
    // Nulls of one row, and more of the same row.
    let nulls = |count: u64| match count {
        1 => [levels(&[(0, 1)]), levels(&[(1, 1)])].concat(),
        count => [levels(&[(0, 1), (1, count - 1)]), levels(&[(1, count)])].concat(),
    };
    let many = 4 << 20;
    let of_nulls = data_page(many, PLAIN, &nulls(4 << 20));
    let more = data_page(
        many,
        PLAIN,
        &[levels(&[(1, 4 << 20)]), levels(&[(1, 4 << 20)])].concat(),
    );
    let row = [of_nulls.clone(), more.repeat(200)].concat();
    vec![
        (
            "a wide value of a dictionary, 20,000 times",
            file(text(), plain, 20_000, 20_000, true, &repeated.concat()),
        ),
        (
            "a prefix of 300,000 bytes",
            rows(2, &data_page(2, DELTA_BYTE_ARRAY, &prefixed)),
        ),
        (
            "prefixes that grow",
            rows(100_000, &data_page(100_000, DELTA_BYTE_ARRAY, &growing)),
        ),
        (
            "a wide value of a dictionary, 100,000 times in a list",
            file(list_of_texts, plain, 1, 100_000, true, &listed.concat()),
        ),
        (
            "a null of 2^31 bytes",
            file(fixed(HUGE), plain, 1, 1, false, &data_page(1, PLAIN, &nulls(1))),
        ),
        (
            "nulls of a MiB, 2^22 times in a list",
            file(fixed(1 << 20), plain, 1, i64::from(many), false, &of_nulls),
        ),
        (
            "a row of 200 pages",
            file(fixed(4), plain, 1, 201 * i64::from(many), false, &row),
        ),
    ]
}

/// Levels of up to 3 in runs, with their length in front.
fn levels(runs: &[(u8, u64)]) -> Vec<u8> {
    let run = |(level, count): &(u8, u64)| [varint(count << 1), vec![*level]].concat();
    framed(&runs.iter().flat_map(run).collect::<Vec<_>>())
}

/// Bytes with their length in front.
fn framed(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("some hundred KiB");
    [length.to_le_bytes().as_slice(), bytes].concat()
}

/// Pages that inflate to more than their headers say, and pages that say how much that is.
fn codecs() -> Vec<(&'static str, Vec<u8>)> {
    let text = || leaf(PhysicalType::BYTE_ARRAY, 0, None);
    let gzip = GZIP_OF_ZEROS.with(Clone::clone);
    let told = |codec, body: &[u8], size: i32| {
        let page = header(0, size, body.len(), |header| data_header(header, 10, PLAIN));
        file(text(), codec, 10, 10, false, &[page, body.to_vec()].concat())
    };
    let gzip_codec = Compression::GZIP(GzipLevel::default());
    let brotli = Compression::BROTLI(BrotliLevel::default());
    vec![
        (
            "a gzip page of 256 MiB that says 1,000 bytes",
            told(gzip_codec, &gzip, 1_000),
        ),
        (
            "a gzip page of 256 MiB that says so",
            told(gzip_codec, &gzip, 256 << 20),
        ),
        (
            "a gzip page of 256 MiB that says 40 MiB",
            told(gzip_codec, &gzip, 40 << 20),
        ),
        ("a Brotli page that says 2^31 bytes", told(brotli, &[0x0b; 40], HUGE)),
        (
            "an LZ4 frame of 255 times its bytes",
            told(Compression::LZ4, &lz4_frame(), 1_000),
        ),
    ]
}

thread_local! {
    static GZIP_OF_ZEROS: Vec<u8> = {
        let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let zeros = vec![0; 1 << 20];
        for _ in 0..256 {
            packed.write_all(&zeros).expect("memory does not fail");
        }
        packed.finish().expect("memory does not fail")
    };
}

/// Blocks of 4 MiB (LZ4 frame format), each a literal and a match that goes on and on.
fn lz4_frame() -> Vec<u8> {
    // Version 1, blocks by themselves; up to 4 MiB; the checksum of these two bytes.
    let mut frame = vec![0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73];
    let mut block = vec![0x1f, 0, 1, 0];
    block.extend(vec![0xff; 15_000]);
    block.extend([0, 0x50, 0, 0, 0, 0, 0]);
    for _ in 0..20 {
        frame.extend(u32::try_from(block.len()).expect("15,000").to_le_bytes());
        frame.extend(&block);
    }
    frame.extend([0; 4]);
    frame
}

/// A column `c`: required, or a list of items that may be null or not.
fn leaf(physical: PhysicalType, length: i32, items: Option<Repetition>) -> Type {
    let named = |name, repetition| {
        let leaf = Type::primitive_type_builder(name, physical).with_repetition(repetition);
        let leaf = if physical == PhysicalType::FIXED_LEN_BYTE_ARRAY {
            leaf.with_length(length)
        } else {
            leaf
        };
        leaf.build().expect("a known type")
    };
    let Some(items) = items else {
        return named("c", Repetition::REQUIRED);
    };
    let items = Type::group_type_builder("list")
        .with_repetition(Repetition::REPEATED)
        .with_fields(vec![Arc::new(named("element", items))]);
    let items = Arc::new(items.build().expect("a group"));
    let list = Type::group_type_builder("c")
        .with_repetition(Repetition::REQUIRED)
        .with_logical_type(Some(LogicalType::List));
    list.with_fields(vec![items]).build().expect("a list")
}

/// A file of one column chunk with these pages.
fn file(column: Type, codec: Compression, rows: i64, values: i64, dictionary: bool, pages: &[u8]) -> Vec<u8> {
    let root = Type::group_type_builder("schema").with_fields(vec![Arc::new(column)]);
    let schema = Arc::new(SchemaDescriptor::new(Arc::new(root.build().expect("a root"))));
    let column: ColumnDescPtr = schema.column(0);
    let length = i64::try_from(pages.len()).expect("some hundred KiB");
    let chunk = ColumnChunkMetaData::builder(column)
        .set_compression(codec)
        .set_num_values(values)
        .set_total_compressed_size(length)
        .set_total_uncompressed_size(length)
        .set_dictionary_page_offset(dictionary.then_some(4))
        .set_data_page_offset(4);
    let group = RowGroupMetaData::builder(Arc::clone(&schema))
        .set_num_rows(rows)
        .set_total_byte_size(length)
        .set_column_metadata(vec![chunk.build().expect("a chunk")]);
    let metadata = ParquetMetaDataBuilder::new(FileMetaData::new(2, rows, None, None, schema, None))
        .add_row_group(group.build().expect("a row group"))
        .build();
    let mut file = [b"PAR1", pages].concat();
    ParquetMetaDataWriter::new(&mut file, &metadata)
        .finish()
        .expect("memory does not fail");
    file
}

fn data_page(values: i32, encoding: i32, body: &[u8]) -> Vec<u8> {
    let size = i32::try_from(body.len()).expect("some hundred KiB");
    let header = header(0, size, body.len(), |header| data_header(header, values, encoding));
    [&header, body].concat()
}

fn dictionary_page(values: i32, body: &[u8]) -> Vec<u8> {
    let size = i32::try_from(body.len()).expect("some hundred KiB");
    let header = header(2, size, body.len(), |header| {
        // 7: the header of a dictionary, whose values are plain.
        header.extend([0x4c, 0x15]);
        header.extend(zigzag(i64::from(values)));
        header.extend([0x15, 0, 0]);
    });
    [&header, body].concat()
}

/// 5: the header of a data page.
fn data_header(header: &mut Vec<u8>, values: i32, encoding: i32) {
    header.push(0x2c);
    for number in [values, encoding, RLE, RLE] {
        header.push(0x15);
        header.extend(zigzag(i64::from(number)));
    }
    header.push(0);
}

/// A page header in Thrift's compact form.
fn header(kind: i32, uncompressed: i32, compressed: usize, rest: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut header = Vec::new();
    let compressed = i64::try_from(compressed).expect("some hundred KiB");
    for number in [i64::from(kind), i64::from(uncompressed), compressed] {
        header.push(0x15);
        header.extend(zigzag(number));
    }
    rest(&mut header);
    header.push(0);
    header
}

fn zigzag(number: i64) -> Vec<u8> {
    varint(((number << 1) ^ (number >> 63)).cast_unsigned())
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).expect("seven bits");
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
