from django.core.validators import MaxValueValidator
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('runs', '0005_wider_columns'),
    ]

    operations = [
        migrations.AddField(
            model_name='host',
            name='slots_per_device',
            field=models.PositiveSmallIntegerField(blank=True, help_text='Runs that a GPU takes at once; COXSWAIN_SLOTS of the host where left empty.', null=True, validators=[MaxValueValidator(64)], verbose_name='slots per GPU'),
        ),
        migrations.AddField(
            model_name='host',
            name='cpu_slots',
            field=models.PositiveSmallIntegerField(blank=True, help_text='Runs that train on the CPU at once; COXSWAIN_CPU_SLOTS of the host where left empty.', null=True, validators=[MaxValueValidator(64)], verbose_name='slots of the CPU'),
        ),
        migrations.AddField(
            model_name='run',
            name='given_devices',
            field=models.JSONField(blank=True, default=list, verbose_name='devices given'),
        ),
    ]
