# The Python packages that virshle and its tests need.
packages: with packages; [
  click
  hypothesis
  jinja2
  jsonschema
  pydantic
  pytest
  pytest-subprocess
  pytest-xdist
  rich
  sh
]
