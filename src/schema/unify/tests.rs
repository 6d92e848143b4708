use super::*;
use crate::schema::Evolution;

fn schema(fields: &[(&str, DataType, bool)]) -> SchemaRef {
    let fields: Vec<Field> = fields
        .iter()
        .map(|(n, t, null)| Field::new(*n, t.clone(), *null))
        .collect();
    Arc::new(Schema::new(fields))
}

fn table(schema: &SchemaRef, evolve: Evolve) -> TableColumns {
    TableColumns {
        schema: Arc::clone(schema),
        evolve,
        evolution: Evolution {
            widens: |_, _| true,
            ..Evolution::default()
        },
    }
}

fn list(name: &str, item: DataType, nullable: bool) -> DataType {
    DataType::List(Arc::new(Field::new(name, item, nullable)))
}

#[test]
fn without_a_table_columns_unite_in_order_of_first_appearance() {
    let a = schema(&[("x", DataType::Int64, false), ("y", DataType::Utf8, false)]);
    let b = schema(&[("z", DataType::Boolean, false), ("x", DataType::Int64, true)]);
    let unified = unify(None, &[a, b]);
    let expected = schema(&[
        ("x", DataType::Int64, true),
        ("y", DataType::Utf8, true),
        ("z", DataType::Boolean, true),
    ]);
    assert_eq!(unified.schema, expected);
    assert_eq!(unified.rejected, vec![]);
}

#[test]
fn the_first_source_wins_a_conflict_and_the_loser_leaves_no_trace() {
    let a = schema(&[("x", DataType::Int64, false)]);
    let b = schema(&[("new", DataType::Utf8, false), ("x", DataType::Utf8, false)]);
    let unified = unify(None, &[Arc::clone(&a), b]);
    assert_eq!(unified.schema, a);
    assert_eq!(unified.rejected, vec![(1, drift("x", "Utf8", "Int64", "type differs"))]);
}

#[test]
fn names_used_twice_or_differing_in_case_only_are_drift() {
    let twice = schema(&[("x", DataType::Int64, false), ("X", DataType::Utf8, false)]);
    let unified = unify(None, &[twice]);
    assert_eq!(
        unified.rejected,
        vec![(0, drift("X", "Utf8", "one column", "column name used twice"))]
    );
    let lower = schema(&[("x", DataType::Int64, false)]);
    let upper = schema(&[("X", DataType::Int64, false)]);
    let unified = unify(None, &[lower, upper]);
    assert_eq!(
        unified.rejected,
        vec![(1, drift("X", "X", "x", "column name differs in case only"))]
    );
}

#[test]
fn a_table_rejects_foreign_missing_required_and_other_types() {
    let columns = schema(&[("x", DataType::Int64, false), ("y", DataType::Utf8, true)]);
    let sources = [
        schema(&[("y", DataType::Utf8, false), ("x", DataType::Int64, true)]),
        schema(&[("x", DataType::Int64, false)]),
        schema(&[("y", DataType::Utf8, false)]),
        schema(&[("x", DataType::Int64, false), ("w", DataType::Utf8, false)]),
        schema(&[("x", DataType::Utf8, false)]),
        schema(&[("x", DataType::Int32, false)]),
    ];
    let unified = unify(Some(&table(&columns, Evolve::Never)), &sources);
    assert_eq!(unified.schema, columns);
    assert_eq!(
        unified.rejected,
        vec![
            (2, drift("x", "absent", "Int64", "required column missing")),
            (3, drift("w", "Utf8", "absent", "column not in the table")),
            (4, drift("x", "Utf8", "Int64", "type differs")),
        ]
    );
}

#[test]
fn lists_match_whatever_their_item_is_called() {
    let columns = schema(&[("l", list("element", DataType::Int64, true), true)]);
    let source = schema(&[("l", list("item", DataType::Int64, false), true)]);
    assert_eq!(unify(Some(&table(&columns, Evolve::Never)), &[source]).rejected, vec![]);
    let a = schema(&[("l", list("element", DataType::Int64, false), true)]);
    let b = schema(&[("l", list("array", DataType::Int64, true), true)]);
    let expected = schema(&[("l", list("element", DataType::Int64, true), true)]);
    assert_eq!(unify(None, &[a, b]).schema, expected);
}

#[test]
fn nulls_say_nothing_and_take_the_type_of_others() {
    let null = DataType::Null;
    let a = schema(&[
        ("x", null.clone(), true),
        ("l", list("element", null.clone(), true), true),
    ]);
    let b = schema(&[
        ("l", list("item", DataType::Int64, false), false),
        ("x", DataType::Utf8, false),
    ]);
    let all_null = schema(&[("x", null.clone(), true), ("l", null.clone(), true), ("X", null, true)]);
    let unified = unify(None, &[Arc::clone(&a), Arc::clone(&b)]);
    let expected = schema(&[
        ("l", list("element", DataType::Int64, true), true),
        ("x", DataType::Utf8, true),
    ]);
    assert_eq!((unified.schema, unified.rejected), (expected, vec![]));
    let unified = unify(Some(&table(&b, Evolve::AddColumns)), &[a]);
    let missing = drift("x", "absent", "Utf8", "required column missing");
    assert_eq!(unified.rejected, vec![(0, missing)]);
    assert_eq!(unify(None, &[all_null]).rejected.len(), 1, "two columns of one name");
}

#[test]
fn items_that_nobody_gives_a_type_reject_their_source_and_leave_no_trace() {
    let untyped = schema(&[
        ("l", list("element", DataType::Null, true), true),
        ("x", DataType::Int64, false),
    ]);
    let other = schema(&[("x", DataType::Utf8, false)]);
    let unified = unify(None, &[Arc::clone(&untyped), Arc::clone(&other)]);
    let reason = QuarantineReason::UnsupportedType {
        column: "l.element".to_owned(),
        data_type: "Null".to_owned(),
    };
    assert_eq!((unified.schema, unified.rejected), (other, vec![(0, reason)]));
    let typed = schema(&[("l", list("element", DataType::Int64, true), true)]);
    assert_eq!(unify(None, &[untyped, typed]).rejected, vec![]);
}

#[test]
fn names_inside_of_structs_that_differ_in_case_only_are_drift() {
    let with = |name: &str| {
        let fields = vec![Field::new(name, DataType::Int64, true)];
        schema(&[("s", DataType::Struct(fields.into()), true)])
    };
    let expected = drift("s.A", "A", "a", "column name differs in case only");
    assert_eq!(unify(None, &[with("a"), with("A")]).rejected, vec![(1, expected)]);
}

#[test]
fn struct_fields_unite_and_become_nullable_where_missing() {
    let with = |fields: Vec<Field>| schema(&[("s", DataType::Struct(fields.into()), false)]);
    let a = with(vec![Field::new("p", DataType::Int64, false)]);
    let b = with(vec![Field::new("q", DataType::Utf8, false)]);
    let expected = with(vec![
        Field::new("p", DataType::Int64, true),
        Field::new("q", DataType::Utf8, true),
    ]);
    assert_eq!(unify(None, &[a, b]).schema, expected);
}

#[test]
fn types_of_a_kind_unite_in_the_wider_one_at_every_depth() {
    let with = |number: DataType, amount: DataType| {
        let part = Field::new("n", number.clone(), true);
        schema(&[
            ("n", number, true),
            ("d", amount, true),
            ("s", DataType::Struct(vec![part.clone()].into()), true),
            ("l", list("element", DataType::Struct(vec![part].into()), true), true),
        ])
    };
    let narrow = with(DataType::Int32, DataType::Decimal128(9, 2));
    let wide = with(DataType::Int64, DataType::Decimal128(9, 4));
    let both = with(DataType::Int64, DataType::Decimal128(11, 4));
    for sources in [[Arc::clone(&narrow), Arc::clone(&wide)], [wide, narrow]] {
        let unified = unify(None, &sources);
        assert_eq!((unified.schema, unified.rejected), (Arc::clone(&both), vec![]));
    }
}

#[test]
fn a_table_takes_new_columns_and_narrower_ones_where_columns_may_be_added() {
    let part = |names: &[&str]| {
        let fields = names.iter().map(|name| Field::new(*name, DataType::Int64, true));
        DataType::Struct(fields.collect())
    };
    let columns = schema(&[("x", DataType::Int64, false), ("s", part(&["a"]), true)]);
    let sources = [
        schema(&[("x", DataType::Int32, true), ("y", DataType::Utf8, false)]),
        schema(&[("x", DataType::Int64, false), ("s", part(&["b", "a"]), false)]),
        schema(&[("x", DataType::Int64, false), ("y", DataType::Int8, false)]),
    ];
    let unified = unify(Some(&table(&columns, Evolve::AddColumns)), &sources);
    let expected = schema(&[
        ("x", DataType::Int64, false),
        ("s", part(&["a", "b"]), true),
        ("y", DataType::Utf8, true),
    ]);
    assert_eq!(unified.schema, expected);
    assert_eq!(unified.rejected, vec![(2, drift("y", "Int8", "Utf8", "type differs"))]);
}

#[test]
fn a_table_is_widened_only_where_owner_and_format_let_it() {
    let columns = schema(&[("x", DataType::Int32, false), ("f", DataType::Int32, false)]);
    let source = schema(&[("x", DataType::Int64, true), ("f", DataType::Int32, false)]);
    let mut table = table(&columns, Evolve::AddColumns);
    let narrower = drift("x", "Int64", "Int32", "type differs: the table's column is narrower");
    let unified = unify(Some(&table), &[Arc::clone(&source)]);
    assert_eq!(
        (unified.schema, unified.rejected),
        (Arc::clone(&columns), vec![(0, narrower)])
    );
    table.evolve = Evolve::AddAndWiden;
    let unified = unify(Some(&table), &[Arc::clone(&source)]);
    assert_eq!((unified.schema, unified.rejected), (Arc::clone(&source), vec![]));
    let lacking = schema(&[("x", DataType::Int64, true)]);
    let unified = unify(Some(&table), std::slice::from_ref(&lacking));
    let relaxed = schema(&[("x", DataType::Int64, true), ("f", DataType::Int32, true)]);
    assert_eq!((unified.schema, unified.rejected), (relaxed, vec![]));
    table.evolution.fixed.insert("f".to_owned());
    let unified = unify(Some(&table), &[lacking]);
    let required = drift("f", "absent", "Int32", "required column missing");
    assert_eq!(unified.rejected, vec![(0, required)]);
    table.evolution = Evolution::default();
    let rule = "type differs: the table's column is narrower, and cannot be widened";
    let unified = unify(Some(&table), &[source]);
    assert_eq!(unified.rejected, vec![(0, drift("x", "Int64", "Int32", rule))]);
}

#[test]
fn a_new_column_has_only_types_that_the_table_can_have_at_any_depth() {
    let columns = schema(&[("x", DataType::Int64, true)]);
    let mut table = table(&columns, Evolve::AddColumns);
    table.evolution.adds = |data_type| *data_type != DataType::Date32;
    let dates = list("element", DataType::Date32, true);
    let source = schema(&[("x", DataType::Int64, true), ("l", dates.clone(), true)]);
    let rule = "column not in the table, which cannot have one of this type";
    let unified = unify(Some(&table), &[source]);
    assert_eq!(
        unified.rejected,
        vec![(0, drift("l", dates.to_string(), "absent", rule))]
    );
}
