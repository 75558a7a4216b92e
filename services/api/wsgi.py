"""What gunicorn serves: ``gunicorn --config services/api/gunicorn.conf.py services.api.wsgi:app``."""

from services.api.app import create_app

app = create_app()
