"""The rules of the Iceberg specification, checked from the bytes: see `iceberg_lint.py` beside this package.

`report` collects what is found, `values` knows types, bounds and transforms, `footer` reads Parquet footers, `avro`
reads Avro files and judges their schemas; `metadata`, `manifests` and `files` judge the three layers of a table.
"""
