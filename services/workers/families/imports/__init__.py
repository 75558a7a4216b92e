"""Imports: workbooks and rows into the product's database."""
