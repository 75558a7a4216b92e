"""What gunicorn serves: ``gunicorn --config services/api/gunicorn.conf.py services.api.wsgi:app``."""

from services.api.app import create_app
from shared.config import load_settings
from shared.log import configure_logging

configure_logging(load_settings())
app = create_app()
