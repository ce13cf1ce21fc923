from django.urls import path

from runs.client_packages import views

urlpatterns = [
    path("simple/", views.simple_index, name="client_index"),
    path("simple/<str:project>/", views.simple_project, name="client_project"),
    path("files/<str:name>", views.client_file, name="client_file"),
]
